// Runs a compiled network under the emulator and marks where its parts begin and end.
//
//   probe model.so NAMES FLUSH [--threads N] IN... -- OUT...
//
// One inference to warm up, one that is marked as a whole, and one whose kernels are:
// to be told of them costs the virtual machine instructions. NAMES gets the names of the
// kernels in order of execution. With FLUSH bytes above 0 the second of the three is left
// out, and with one thread, which starts no others, the first; that much memory is read
// before the last, and the inputs are written again: the caches are then as in a larger
// network, where the operator before has just written the inputs and the weights have
// long been pushed out.
//
// Parallel loops run on TVM's own threads; with one thread, their body has marks of its
// own.
#define main driver_main
#include "driver.cpp"
#undef main

#include <dlfcn.h>
#include <sys/prctl.h>

namespace {

// Of the emulator's plugin: a mark ends a segment, its number says what the segment was.
constexpr int kMark = 0x676f7378;
// kOutside is also what this program does itself.
enum Segment { kOutside, kRuntime, kSerial, kTask, kWhole };

struct ParallelEnvironment {  // TVMParallelGroupEnv
  void* sync_handle;
  int32_t num_task;
};
using ParallelLambda = int (*)(int task, ParallelEnvironment*, void* data);

FILE* names = nullptr;
bool marking = false;  // of kernels

void Mark(Segment ended) { prctl(kMark, ended, 0, 0, 0); }

int RunHere(ParallelLambda function, void* data, int wanted) {
  ParallelEnvironment environment = {nullptr, wanted > 0 ? wanted : 1};
  if (marking) Mark(kSerial);
  for (int task = 0; task < environment.num_task; ++task) {
    int code = function(task, &environment, data);
    if (marking) Mark(kTask);
    if (code != 0) return code;
  }
  return 0;
}

void WriteName(const TVMFFIAny& value) {
  TVMFFIByteArray text = {nullptr, 0};
  if (value.type_index == kTVMFFIStr) {
    text = *TVMFFIBytesGetByteArrayPtr(value.v_obj);
  } else if (value.type_index == kTVMFFISmallStr) {
    text = {value.v_bytes, value.small_str_len};
  } else if (value.type_index == kTVMFFIRawStr) {
    text = {value.v_c_str, strlen(value.v_c_str)};
  } else {
    Fail("a kernel without a name");
  }
  fprintf(names, "%.*s\n", static_cast<int>(text.size), text.data);
}

// Called by the virtual machine before and after each function: (function, name,
// before, result, arguments...).
int OnFunction(void*, const TVMFFIAny* arguments, int32_t, TVMFFIAny* result) {
  *result = Int(0);
  if (!marking) return 0;
  bool before = arguments[2].v_int64 != 0;
  Mark(before ? kRuntime : kSerial);
  if (before) WriteName(arguments[1]);
  Mark(kOutside);
  return 0;
}

void Flush(size_t bytes, const TVMFFIAny* inputs, int count) {
  static volatile char sink;
  volatile char* memory = static_cast<char*>(malloc(bytes));
  if (memory == nullptr) Fail("out of memory");
  for (size_t i = 0; i < bytes; i += kAlignment) memory[i] = 1;  // pages of its own
  for (size_t i = 0; i < bytes; i += kAlignment) sink = memory[i];
  for (int i = 0; i < count; ++i) {
    const DLTensor& tensor = *TVMFFITensorGetDLTensorPtr(inputs[i].v_obj);
    volatile char* data = static_cast<char*>(tensor.data);
    for (size_t at = 0; at < Bytes(tensor); at += kAlignment) data[at] = data[at];
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) Fail("usage: probe model.so NAMES FLUSH [--threads N] IN... -- OUT...");
  names = fopen(argv[2], "w");
  if (names == nullptr) Fail("cannot write ", argv[2]);
  size_t flush = strtoull(argv[3], nullptr, 10);
  argv[3] = argv[1];
  Options options = ParseOptions(argc - 2, argv + 2);
  SetThreads(options);
  TVMFFIAny machine = Load(options.library);
  if (options.threads <= 1) {
    void* library = dlopen(options.library, RTLD_NOW);
    if (library == nullptr) Fail("cannot open ", options.library);
    auto launch = static_cast<decltype(&RunHere)*>(
        dlsym(library, "__TVMBackendParallelLaunch"));
    if (launch != nullptr) *launch = RunHere;  // it has none without parallel loops
  }

  static Input inputs[kMaxTensors];
  TVMFFIAny arguments[kMaxTensors] = {};
  for (int i = 0; i < options.input_count; ++i) {
    arguments[i] = ReadInput(options.inputs[i], &inputs[i]);
  }
  TVMFFIObjectHandle network = Method(machine, "main");
  constexpr Segment kEach[] = {kOutside, kWhole};
  TVMFFIAny result = {};
  for (Segment segment : kEach) {
    if (flush > 0 && (segment == kWhole || options.threads <= 1)) break;
    Mark(kOutside);
    result = Call(network, arguments, options.input_count);
    Mark(segment);
    Check(TVMFFIObjectDecRef(result.v_obj));
  }
  if (flush > 0) Flush(flush, arguments, options.input_count);
  TVMFFIAny instrument = {};
  TVMFFIObjectHandle function = nullptr;
  Check(TVMFFIFunctionCreate(nullptr, OnFunction, nullptr, &function));
  instrument.type_index = kTVMFFIFunction;
  instrument.v_obj = static_cast<TVMFFIObject*>(function);
  Call(Method(machine, "set_instrument"), &instrument, 1);

  marking = true;
  Mark(kOutside);
  result = Call(network, arguments, options.input_count);
  Mark(kRuntime);
  marking = false;
  WriteOutputs(options, result);
  if (fclose(names) != 0) Fail("cannot write the names of the kernels");
  return 0;
}
