// Runs a compiled network without Python: the example for C++ programs and for Android,
// and what the emulator runs.
//
//   driver model.so [--threads N] [--repeats R] IN... -- OUT...
//   IN  = dtype:1,3,32,32:file   (raw little-endian elements, row-major)
//   OUT = file                   (the same, float32 or whatever the network returns)
//
// With --repeats it also prints the seconds of each run, one line each. Build:
//   c++ -std=c++17 driver.cpp -I<tvm_ffi>/include -L<libs> -ltvm_runtime -ltvm_ffi
#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

namespace {

// 64 bytes: the alignment that TVM's generated code assumes of every tensor.
constexpr size_t kAlignment = 64;
constexpr int kPooledAllocator = 2;

struct HostAlloc {
  void AllocData(DLTensor* tensor) {
    size_t bytes = ffi::GetDataSize(*tensor);
    bytes = (bytes + kAlignment) / kAlignment * kAlignment;
    tensor->data = std::aligned_alloc(kAlignment, bytes);
    if (tensor->data == nullptr) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

DLDataType ParseDtype(const std::string& name) {
  if (name == "float32") return DLDataType{kDLFloat, 32, 1};
  if (name == "float64") return DLDataType{kDLFloat, 64, 1};
  if (name == "int64") return DLDataType{kDLInt, 64, 1};
  if (name == "int32") return DLDataType{kDLInt, 32, 1};
  if (name == "uint8") return DLDataType{kDLUInt, 8, 1};
  if (name == "bool") return DLDataType{kDLBool, 8, 1};
  throw std::runtime_error("unknown dtype " + name);
}

ffi::Tensor ReadInput(const std::string& spec) {
  size_t first = spec.find(':');
  size_t second = spec.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos) {
    throw std::runtime_error("not dtype:shape:file: " + spec);
  }
  std::string dims = spec.substr(first + 1, second - first - 1);
  std::vector<int64_t> shape;
  for (size_t at = 0; at < dims.size();) {
    size_t comma = dims.find(',', at);
    if (comma == std::string::npos) comma = dims.size();
    shape.push_back(std::stoll(dims.substr(at, comma - at)));
    at = comma + 1;
  }
  ffi::Tensor tensor =
      ffi::Tensor::FromNDAlloc(HostAlloc(), ffi::Shape(shape.begin(), shape.end()),
                               ParseDtype(spec.substr(0, first)), DLDevice{kDLCPU, 0});
  std::string path = spec.substr(second + 1);
  std::ifstream file(path, std::ios::binary);
  std::streamsize bytes = static_cast<std::streamsize>(ffi::GetDataSize(tensor));
  if (!file.read(static_cast<char*>(tensor.data_ptr()), bytes)) {
    throw std::runtime_error(path + " holds fewer than " + std::to_string(bytes) +
                             " bytes");
  }
  return tensor;
}

void WriteOutput(const ffi::Tensor& tensor, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  if (!file.write(static_cast<const char*>(tensor.data_ptr()),
                  static_cast<std::streamsize>(ffi::GetDataSize(tensor)))) {
    throw std::runtime_error("cannot write " + path);
  }
}

struct Options {
  std::string library;
  std::vector<std::string> inputs, outputs;
  int threads = 0;
  int repeats = 0;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  bool after_dashes = false;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) {
      options.threads = std::stoi(argv[++i]);
    } else if (arg == "--repeats" && i + 1 < argc) {
      options.repeats = std::stoi(argv[++i]);
    } else if (arg == "--") {
      after_dashes = true;
    } else if (options.library.empty()) {
      options.library = arg;
    } else {
      (after_dashes ? options.outputs : options.inputs).push_back(arg);
    }
  }
  if (options.library.empty()) {
    throw std::runtime_error(
        "usage: driver model.so [--threads N] [--repeats R] "
        "dtype:shape:file... -- file...");
  }
  return options;
}

void SetThreads(int threads) {
  constexpr int kBigCores = 1;
  ffi::Function::GetGlobalRequired("runtime.config_threadpool")(kBigCores, threads);
}

int Run(const Options& options) {
  if (options.threads > 0) SetThreads(options.threads);
  ffi::Module library = ffi::Module::LoadFromFile(options.library);
  ffi::Module vm = library->GetFunction("vm_load_executable")
                       .value()()
                       .cast<ffi::Module>();
  vm->GetFunction("vm_initialization")
      .value()(static_cast<int>(kDLCPU), 0, kPooledAllocator);
  ffi::Function main = vm->GetFunction("main").value();

  std::vector<ffi::Tensor> tensors;
  for (const std::string& spec : options.inputs) tensors.push_back(ReadInput(spec));
  std::vector<ffi::AnyView> arguments(tensors.begin(), tensors.end());
  auto call = [&] {
    ffi::Any result;
    main.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
    return result;
  };
  ffi::Any result = call();
  for (int i = 0; i < options.repeats; ++i) {
    auto start = std::chrono::steady_clock::now();
    result = call();
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%.9f\n", seconds.count());
  }

  std::vector<ffi::Tensor> results;
  if (auto one = result.as<ffi::Tensor>()) {
    results.push_back(*one);
  } else {
    for (ffi::Tensor one : result.cast<ffi::Array<ffi::Tensor>>()) {
      results.push_back(one);
    }
  }
  if (options.outputs.size() > results.size()) {
    throw std::runtime_error("the network returns " + std::to_string(results.size()) +
                             " tensors");
  }
  for (size_t i = 0; i < options.outputs.size(); ++i) {
    WriteOutput(results[i], options.outputs[i]);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(ParseOptions(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "driver: " << error.what() << std::endl;
    return 1;
  }
}
