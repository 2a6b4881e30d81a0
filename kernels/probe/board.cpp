// Loaded by a board's RPC server beside a compiled network: what TVM's RPC lacks.
//
// The server's upload stops silently on a full disk, its download cannot read /proc,
// and the virtual machine's instrument must be a function of the board's own process.
// The symbols of TVM come from the server, as those of a compiled network do.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tvm/ffi/c_api.h>

enum { kCalls = 16384, kDepth = 8, kName = 112, kText = 65536, kLine = 32 };

// One call of a kernel: seconds of the monotonic clock, and what was called.
static struct {
  double before, after;
  char name[kName];
} calls[kCalls];
static int count, depth, open_calls[kDepth];

static volatile char* flush_memory;
static size_t flush_bytes;

static TVMFFIAny Integer(int64_t value) {
  TVMFFIAny result = {};
  result.type_index = kTVMFFIInt;
  result.v_int64 = value;
  return result;
}

static TVMFFIByteArray Text(const TVMFFIAny* value) {
  TVMFFIByteArray text = {"", 0};
  if (value->type_index == kTVMFFIStr) {
    text = *TVMFFIBytesGetByteArrayPtr(value->v_obj);
  } else if (value->type_index == kTVMFFISmallStr) {
    text = TVMFFISmallBytesGetContentByteArray(value);
  } else if (value->type_index == kTVMFFIRawStr) {
    text.data = value->v_c_str;
    text.size = strlen(value->v_c_str);
  }
  return text;
}

static void Copy(TVMFFIByteArray text, char* to, size_t room) {
  size_t size = text.size < room - 1 ? text.size : room - 1;
  memcpy(to, text.data, size);
  to[size] = 0;
}

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Called by the virtual machine before and after each function: (function, name,
// before, result, arguments...). Its own builtins are no kernels.
static int OnFunction(void*, const TVMFFIAny* arguments, int32_t size,
                      TVMFFIAny* result) {
  double now = Now();
  *result = Integer(0);
  if (size < 3) return 0;
  TVMFFIByteArray name = Text(arguments + 1);
  if (name.size >= 3 && memcmp(name.data, "vm.", 3) == 0) return 0;
  if (arguments[2].v_int64) {
    int call = count < kCalls ? count++ : -1;
    if (depth < kDepth) open_calls[depth] = call;
    ++depth;
    if (call < 0) return 0;
    Copy(name, calls[call].name, kName);
    calls[call].before = Now();
  } else if (--depth < kDepth && open_calls[depth] >= 0) {
    calls[open_calls[depth]].after = now;
  }
  return 0;
}

// (virtual machine): its calls are recorded from now on.
extern "C" int __tvm_ffi_gos_fx_watch(void*, const TVMFFIAny* arguments, int32_t,
                                      TVMFFIAny* result) {
  static const char kGet[] = "ffi.ModuleGetFunction";
  TVMFFIByteArray name = {kGet, sizeof kGet - 1};
  TVMFFIObjectHandle get = nullptr, instrument = nullptr;
  TVMFFIAny request[3] = {}, set = {}, given = {};
  int failed = TVMFFIFunctionGetGlobal(&name, &get);
  if (failed) return failed;
  request[0] = arguments[0];
  request[1].type_index = kTVMFFIRawStr;
  request[1].v_c_str = "set_instrument";
  request[2].type_index = kTVMFFIBool;
  failed = TVMFFIFunctionCall(get, request, 3, &set);
  TVMFFIObjectDecRef(get);
  if (failed) return failed;
  failed = TVMFFIFunctionCreate(nullptr, OnFunction, nullptr, &instrument);
  if (!failed) {
    given.type_index = kTVMFFIFunction;
    given.v_obj = (TVMFFIObject*)instrument;
    failed = TVMFFIFunctionCall(set.v_obj, &given, 1, result);
    TVMFFIObjectDecRef(instrument);
  }
  TVMFFIObjectDecRef(set.v_obj);
  return failed;
}

// (): the calls since the last time, as the structures lie in memory.
extern "C" int __tvm_ffi_gos_fx_calls(void*, const TVMFFIAny*, int32_t,
                                      TVMFFIAny* result) {
  TVMFFIByteArray bytes = {(const char*)calls, (size_t)count * sizeof calls[0]};
  count = depth = 0;
  return TVMFFIBytesFromByteArray(&bytes, result);
}

// (path): bytes of a file, -1 if it cannot be opened.
extern "C" int __tvm_ffi_gos_fx_size(void*, const TVMFFIAny* arguments, int32_t,
                                     TVMFFIAny* result) {
  char path[4096];
  Copy(Text(arguments), path, sizeof path);
  FILE* file = fopen(path, "rb");
  *result = Integer(-1);
  if (file == nullptr) return 0;
  fseek(file, 0, SEEK_END);
  *result = Integer(ftell(file));
  fclose(file);
  return 0;
}

// (path): the beginning of a file; nothing if it cannot be read.
extern "C" int __tvm_ffi_gos_fx_text(void*, const TVMFFIAny* arguments, int32_t,
                                     TVMFFIAny* result) {
  static char text[kText];
  char path[4096];
  Copy(Text(arguments), path, sizeof path);
  FILE* file = fopen(path, "rb");
  TVMFFIByteArray bytes = {text, 0};
  if (file != nullptr) {
    bytes.size = fread(text, 1, sizeof text, file);
    fclose(file);
  }
  return TVMFFIBytesFromByteArray(&bytes, result);
}

// (inputs...): the caches are then as in a larger network, where the operator before
// has just written the inputs and the weights have long been pushed out.
static int Flush(void*, const TVMFFIAny* arguments, int32_t size, TVMFFIAny* result) {
  static volatile char sink;
  *result = Integer(0);
  for (size_t at = 0; at < flush_bytes; at += kLine) sink = sink + flush_memory[at];
  for (int i = 0; i < size; ++i) {
    const DLTensor* tensor = nullptr;
    if (arguments[i].type_index == kTVMFFIDLTensorPtr) {
      tensor = (const DLTensor*)arguments[i].v_ptr;
    } else if (arguments[i].type_index == kTVMFFITensor) {
      tensor = TVMFFITensorGetDLTensorPtr(arguments[i].v_obj);
    } else {
      continue;
    }
    size_t bytes = (size_t)(tensor->dtype.bits * tensor->dtype.lanes + 7) / 8;
    for (int d = 0; d < tensor->ndim; ++d) bytes *= (size_t)tensor->shape[d];
    volatile char* data = (volatile char*)tensor->data + tensor->byte_offset;
    for (size_t at = 0; at < bytes; at += kLine) data[at] = data[at];
  }
  return 0;
}

// (bytes): the global function "gos_fx.flush" reads so much memory.
extern "C" int __tvm_ffi_gos_fx_flush(void*, const TVMFFIAny* arguments, int32_t,
                                      TVMFFIAny* result) {
  static const char kFlush[] = "gos_fx.flush";
  TVMFFIByteArray name = {kFlush, sizeof kFlush - 1};
  TVMFFIObjectHandle function = nullptr;
  *result = Integer(0);
  free((void*)flush_memory);
  flush_bytes = (size_t)arguments[0].v_int64;
  flush_memory = static_cast<volatile char*>(malloc(flush_bytes));
  if (flush_memory == nullptr) flush_bytes = 0;
  for (size_t at = 0; at < flush_bytes; ++at) flush_memory[at] = 1;  // own pages
  int failed = TVMFFIFunctionCreate(nullptr, Flush, nullptr, &function);
  if (failed) return failed;
  failed = TVMFFIFunctionSetGlobal(&name, function, 1);
  TVMFFIObjectDecRef(function);
  return failed;
}
