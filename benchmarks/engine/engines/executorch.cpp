// A network of ExecuTorch behind three C functions, so that neither torch nor a C++
// library of a certain kind is needed to run it: its wheel's Python module links to the
// torch that it was built with. Uses only the part of the runtime without std:: types.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <executorch/extension/data_loader/file_data_loader.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

// The wheel lacks the header of its thread pool.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::extension::FileDataLoader;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::MemoryAllocator;
using executorch::runtime::MemoryManager;
using executorch::runtime::Method;
using executorch::runtime::MethodMeta;
using executorch::runtime::Program;
using executorch::runtime::Result;
using executorch::runtime::Span;

constexpr size_t kMaxBuffers = 16, kMaxRank = 16;
// Of the structures that stay; weights are not among them.
constexpr size_t kMethodBytes = 64 << 20;
// Scratch memory of one kernel.
constexpr size_t kTemporaryBytes = 64 << 20;

void Check(Error error, const char* what) {
  if (error == Error::Ok) return;
  fprintf(stderr, "executorch: %s: error %d\n", what, static_cast<int>(error));
  exit(1);
}

template <typename T>
T* Checked(Result<T>&& result, const char* what) {
  Check(result.error(), what);
  return static_cast<T*>(new (malloc(sizeof(T))) T(static_cast<T&&>(result.get())));
}

template <typename T, typename... Arguments>
T* Kept(Arguments... arguments) {
  return new (malloc(sizeof(T))) T(arguments...);
}

uint8_t* Bytes(size_t size) {
  return static_cast<uint8_t*>(aligned_alloc(64, (size + 127) / 64 * 64));
}

MemoryManager* Memory(const MethodMeta& meta) {
  size_t count = meta.num_memory_planned_buffers();
  auto* buffers = static_cast<Span<uint8_t>*>(malloc(kMaxBuffers * sizeof(Span<uint8_t>)));
  if (count > kMaxBuffers) Check(Error::NotSupported, "planned buffers");
  for (size_t i = 0; i < count; ++i) {
    size_t size = static_cast<size_t>(meta.memory_planned_buffer_size(i).get());
    new (&buffers[i]) Span<uint8_t>(Bytes(size), size);
  }
  return Kept<MemoryManager>(
      Kept<MemoryAllocator>(static_cast<uint32_t>(kMethodBytes), Bytes(kMethodBytes)),
      Kept<HierarchicalAllocator>(Span<Span<uint8_t>>(buffers, count)),
      Kept<MemoryAllocator>(static_cast<uint32_t>(kTemporaryBytes),
                            Bytes(kTemporaryBytes)));
}

}  // namespace

// All that is opened stays open until the process ends.
extern "C" void* open_network(const char* path, int threads) {
  executorch::runtime::runtime_init();
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(
      static_cast<uint32_t>(threads));
  auto* loader = Checked(FileDataLoader::from(path), "open");
  auto* program = Checked(Program::load(loader), "load the program");
  auto meta = program->method_meta("forward");
  Check(meta.error(), "forward");
  return Checked(program->load_method("forward", Memory(meta.get())), "load forward");
}

// Bytes of the output.
extern "C" size_t output_bytes(void* network) {
  auto meta = static_cast<Method*>(network)->method_meta().output_tensor_meta(0);
  Check(meta.error(), "output");
  return meta.get().nbytes();
}

extern "C" void run_network(void* network, void* input, void* output) {
  Method& method = *static_cast<Method*>(network);
  auto meta = method.method_meta().input_tensor_meta(0);
  Check(meta.error(), "input");
  int32_t sizes[kMaxRank], strides[kMaxRank];
  uint8_t order[kMaxRank];
  auto shape = meta.get().sizes();
  int32_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    sizes[i] = shape[i], strides[i] = stride, order[i] = static_cast<uint8_t>(i);
    stride *= sizes[i];
  }
  TensorImpl tensor(ScalarType::Float, static_cast<ssize_t>(shape.size()), sizes, input,
                    order, strides);
  Check(method.set_input(EValue(Tensor(&tensor)), 0), "set the input");
  Check(method.execute(), "execute");
  const Tensor& result = method.get_output(0).toTensor();
  memcpy(output, result.const_data_ptr(), result.nbytes());
}
