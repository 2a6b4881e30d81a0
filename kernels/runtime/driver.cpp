// Runs a compiled network without Python: the example for C++ programs and for Android,
// and what the emulator runs. It uses the C interface of TVM alone, so that any C++
// compiler and library fit.
//
//   driver model.so [--threads N] [--repeats R] IN... -- OUT...
//   IN  = dtype:1,3,32,32:file   (raw little-endian elements, row-major)
//   OUT = file                   (the same, in the dtype of the network's output)
//
// With --repeats it also prints the seconds of each run, one line each. Build:
//   c++ driver.cpp -I<tvm_ffi>/include -L<libs> -ltvm_runtime -ltvm_ffi
#include <dlpack/dlpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tvm/ffi/c_api.h>

namespace {

// 64 bytes: the alignment that TVM's generated code assumes of every tensor.
constexpr size_t kAlignment = 64;
constexpr int kPooledAllocator = 2;
constexpr int kBigCores = 1;  // of TVM's AffinityMode
constexpr int kMaxTensors = 64;
constexpr int kMaxRank = 8;

[[noreturn]] void Fail(const char* what, const char* which = "") {
  fprintf(stderr, "driver: %s%s\n", what, which);
  exit(1);
}

void Check(int code) {
  if (code == 0) return;
  TVMFFIObjectHandle error = nullptr;
  TVMFFIErrorMoveFromRaised(&error);
  if (error == nullptr) Fail("unknown error");
  TVMFFIByteArray message = TVMFFIErrorGetCellPtr(error)->message;
  fprintf(stderr, "driver: %.*s\n", static_cast<int>(message.size), message.data);
  exit(1);
}

TVMFFIAny Int(int64_t value) {
  TVMFFIAny any = {};
  any.type_index = kTVMFFIInt;
  any.v_int64 = value;
  return any;
}

TVMFFIAny Str(const char* text) {
  TVMFFIAny any = {};
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

TVMFFIAny Call(TVMFFIObjectHandle function, TVMFFIAny* arguments, int count) {
  TVMFFIAny result = {};
  Check(TVMFFIFunctionCall(function, arguments, count, &result));
  return result;
}

TVMFFIObjectHandle Global(const char* name) {
  TVMFFIByteArray text = {name, strlen(name)};
  TVMFFIObjectHandle function = nullptr;
  Check(TVMFFIFunctionGetGlobal(&text, &function));
  if (function == nullptr) Fail("the runtime lacks ", name);
  return function;
}

TVMFFIObjectHandle Method(TVMFFIAny module, const char* name) {
  TVMFFIAny query = {};
  query.type_index = kTVMFFIBool;
  TVMFFIAny arguments[] = {module, Str(name), query};
  TVMFFIAny found = Call(Global("ffi.ModuleGetFunction"), arguments, 3);
  if (found.type_index != kTVMFFIFunction) Fail("the library lacks ", name);
  return found.v_obj;
}

struct Dtype {
  const char* name;
  DLDataType type;
};

constexpr Dtype kDtypes[] = {
    {"float32", {kDLFloat, 32, 1}}, {"float64", {kDLFloat, 64, 1}},
    {"int64", {kDLInt, 64, 1}},     {"int32", {kDLInt, 32, 1}},
    {"uint8", {kDLUInt, 8, 1}},     {"bool", {kDLBool, 8, 1}},
};

size_t Bytes(const DLTensor& tensor) {
  size_t count = 1;
  for (int i = 0; i < tensor.ndim; ++i) count *= tensor.shape[i];
  return count * ((tensor.dtype.bits * tensor.dtype.lanes + 7) / 8);
}

// dtype:1,3,32,32:file
struct Input {
  DLManagedTensor managed = {};
  int64_t shape[kMaxRank] = {};
};

TVMFFIAny ReadInput(const char* spec, Input* input) {
  DLTensor& tensor = input->managed.dl_tensor;
  tensor.device = DLDevice{kDLCPU, 0};
  tensor.shape = input->shape;
  const char* dims = strchr(spec, ':');
  const char* path = dims == nullptr ? nullptr : strchr(dims + 1, ':');
  if (path == nullptr) Fail("not dtype:shape:file: ", spec);
  for (const Dtype& dtype : kDtypes) {
    if (strlen(dtype.name) == static_cast<size_t>(dims - spec) &&
        strncmp(dtype.name, spec, dims - spec) == 0) {
      tensor.dtype = dtype.type;
    }
  }
  if (tensor.dtype.bits == 0) Fail("unknown dtype: ", spec);
  for (const char* at = dims + 1; at < path;) {
    char* end = nullptr;
    if (tensor.ndim == kMaxRank) Fail("too many axes: ", spec);
    input->shape[tensor.ndim++] = strtoll(at, &end, 10);
    if (end == at) Fail("not a shape: ", spec);
    at = end + 1;
  }
  size_t bytes = Bytes(tensor);
  size_t room = (bytes + kAlignment) / kAlignment * kAlignment;
  tensor.data = aligned_alloc(kAlignment, room);
  if (tensor.data == nullptr) Fail("out of memory for ", spec);
  FILE* file = fopen(path + 1, "rb");
  if (file == nullptr || fread(tensor.data, 1, bytes, file) != bytes) {
    Fail("missing or too short: ", path + 1);
  }
  fclose(file);
  TVMFFIObjectHandle object = nullptr;
  Check(TVMFFITensorFromDLPack(&input->managed, kAlignment, 1, &object));
  TVMFFIAny any = {};
  any.type_index = kTVMFFITensor;
  any.v_obj = static_cast<TVMFFIObject*>(object);
  return any;
}

void WriteOutput(const TVMFFIAny& value, const char* path) {
  if (value.type_index != kTVMFFITensor) Fail("the network returns no tensor for ", path);
  const DLTensor& tensor = *TVMFFITensorGetDLTensorPtr(value.v_obj);
  size_t bytes = Bytes(tensor);
  const char* data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
  FILE* file = fopen(path, "wb");
  if (file == nullptr || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
    Fail("cannot write ", path);
  }
}

double Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Options {
  const char* library = nullptr;
  const char* inputs[kMaxTensors] = {};
  const char* outputs[kMaxTensors] = {};
  int input_count = 0, output_count = 0, threads = 0, repeats = 0;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  bool after_dashes = false;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      options.threads = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--repeats") == 0 && i + 1 < argc) {
      options.repeats = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--") == 0) {
      after_dashes = true;
    } else if (options.library == nullptr) {
      options.library = argv[i];
    } else {
      int& count = after_dashes ? options.output_count : options.input_count;
      if (count == kMaxTensors) Fail("too many tensors");
      (after_dashes ? options.outputs : options.inputs)[count++] = argv[i];
    }
  }
  if (options.library == nullptr) {
    Fail("usage: driver model.so [--threads N] [--repeats R] "
         "dtype:shape:file... -- file...");
  }
  return options;
}

// Of TVM's pool, before it starts.
void SetThreads(const Options& options) {
  if (options.threads <= 0) return;
  char count[16];
  snprintf(count, sizeof count, "%d", options.threads);
  setenv("TVM_NUM_THREADS", count, 1);
  TVMFFIAny arguments[] = {Int(kBigCores), Int(options.threads)};
  Call(Global("runtime.config_threadpool"), arguments, 2);
}

// TVM's virtual machine with the network loaded.
TVMFFIAny Load(const char* file) {
  TVMFFIAny path = Str(file);
  TVMFFIAny library = Call(Global("ffi.ModuleLoadFromFile"), &path, 1);
  TVMFFIAny machine = Call(Method(library, "vm_load_executable"), nullptr, 0);
  TVMFFIAny device[] = {Int(kDLCPU), Int(0), Int(kPooledAllocator)};
  Call(Method(machine, "vm_initialization"), device, 3);
  return machine;
}

void WriteOutputs(const Options& options, const TVMFFIAny& result) {
  const TVMFFIAny* results = &result;
  int64_t count = 1;
  if (result.type_index == kTVMFFIArray) {
    char* object = static_cast<char*>(static_cast<void*>(result.v_obj));
    void* cell = object + sizeof(TVMFFIObject);
    results = static_cast<TVMFFIAny*>(static_cast<TVMFFISeqCell*>(cell)->data);
    count = static_cast<TVMFFISeqCell*>(cell)->size;
  }
  if (options.output_count > count) Fail("the network returns fewer tensors");
  for (int i = 0; i < options.output_count; ++i) {
    WriteOutput(results[i], options.outputs[i]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options = ParseOptions(argc, argv);
  SetThreads(options);
  TVMFFIObjectHandle network = Method(Load(options.library), "main");

  static Input inputs[kMaxTensors];
  TVMFFIAny arguments[kMaxTensors] = {};
  for (int i = 0; i < options.input_count; ++i) {
    arguments[i] = ReadInput(options.inputs[i], &inputs[i]);
  }
  TVMFFIAny result = Call(network, arguments, options.input_count);
  for (int i = 0; i < options.repeats; ++i) {
    Check(TVMFFIObjectDecRef(result.v_obj));
    double start = Now();
    result = Call(network, arguments, options.input_count);
    printf("%.9f\n", Now() - start);
  }
  WriteOutputs(options, result);
  return 0;
}
