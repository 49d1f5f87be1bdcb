// ExecuTorch for Python without torch: one method of one program, numpy arrays in and out.
//
// Stands on the shared libraries of the executorch package, which Python opens before this module.
// What goes wrong becomes ExecuTorchError with the library's name for it and the first line that
// it would have logged.
#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "executorch_log.h"
#include "executorch_threads.h"

namespace edge_asr {
namespace {

namespace nb = nanobind;
using executorch::aten::ScalarType;
using executorch::extension::BufferDataLoader;
using executorch::extension::MallocMemoryAllocator;

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Memory = std::unique_ptr<std::byte, decltype(&std::free)>;

constexpr size_t kProgramAlignment = alignof(std::max_align_t);  // asked for by Program::load
constexpr size_t kArenaAlignment = 64;
constexpr size_t kMaxAxes = 16;  // of a tensor of the library

std::optional<nb::dlpack::dtype> dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return nb::dtype<float>();
    case ScalarType::Double:
      return nb::dtype<double>();
    case ScalarType::Long:
      return nb::dtype<int64_t>();
    case ScalarType::Int:
      return nb::dtype<int32_t>();
    case ScalarType::Char:
      return nb::dtype<int8_t>();
    case ScalarType::Byte:
      return nb::dtype<uint8_t>();
    case ScalarType::Bool:
      return nb::dtype<bool>();
    default:
      return std::nullopt;
  }
}

const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Bool:
      return "bool";
    default:
      return "unknown";
  }
}

// What a program declares of an input or output; a size that varies is its upper bound.
struct Declared {
  ScalarType type;
  std::vector<int32_t> sizes;
};

struct Output {
  ScalarType type;
  std::vector<size_t> sizes;
  Memory data;
};

Memory allocate(size_t bytes) {
  // Zeros that the system gives when they are touched: arenas are sized for the longest input.
  Memory memory(static_cast<std::byte*>(std::calloc(bytes, 1)), &std::free);
  if (!memory) throw std::bad_alloc();
  return memory;
}

class Method {
 public:
  Method(nb::bytes program, const std::string& name, size_t threads) : bytes_(std::move(program)) {
    if (threads == 0) throw std::invalid_argument("threads must be at least 1");
    Log::install();
    const size_t size = bytes_.size();
    const void* data = bytes_.data();
    nb::gil_scoped_release unlocked;
    if (reinterpret_cast<uintptr_t>(data) % kProgramAlignment != 0) {
      copy_ = allocate(size + 1);  // calloc aligns
      data = std::memcpy(copy_.get(), data, size);
    }
    loader_.emplace(data, size);
    load(name, threads);
  }

  std::vector<Declared> inputs, outputs;

  size_t threads() const { return threads_; }
  size_t planned_bytes() const { return planned_bytes_; }

  nb::list run(const std::vector<Array>& arrays) {
    std::vector<Output> results;
    Log::install();
    {
      nb::gil_scoped_release unlocked;
      std::lock_guard alone(mutex_);
      const auto share = Threads::take(threads_);
      Log log;
      set_inputs(arrays, log);
      log.check(method_->execute(), "running the method");
      for (size_t index = 0; index < outputs.size(); ++index) {
        results.push_back(copy_output(index, log));
      }
    }
    nb::list arrays_out;
    for (Output& result : results) {
      std::byte* data = result.data.release();
      nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
      arrays_out.append(nb::ndarray<nb::numpy>(data, result.sizes.size(), result.sizes.data(),
                                               owner, nullptr, *dtype_of(result.type)));
    }
    return arrays_out;
  }

 private:
  void load(const std::string& name, size_t threads) {
    Log log;
    auto program = et::Program::load(&*loader_, et::Program::Verification::InternalConsistency);
    log.check(program.error(), "loading the program");
    program_.emplace(std::move(*program));
    auto meta = program_->method_meta(name.c_str());
    log.check(meta.error(), "finding the method");
    for (size_t index = 0; index < meta->num_inputs(); ++index) {
      auto info = meta->input_tensor_meta(index);
      inputs.push_back(declared(info, "input", index, log));
    }
    for (size_t index = 0; index < meta->num_outputs(); ++index) {
      auto info = meta->output_tensor_meta(index);
      outputs.push_back(declared(info, "output", index, log));
      if (!info->is_memory_planned()) {
        log.fail(et::Error::NotSupported, place("output", index) + " without planned memory");
      }
    }
    plan(*meta, log);
    threads_ = Threads::at_most(threads);
    const auto share = Threads::take(threads_);
    auto method = program_->load_method(name.c_str(), &*manager_);
    log.check(method.error(), "loading the method");
    method_.emplace(std::move(*method));
  }

  void plan(const et::MethodMeta& meta, const Log& log) {
    for (size_t index = 0; index < meta.num_memory_planned_buffers(); ++index) {
      auto bytes = meta.memory_planned_buffer_size(index);
      log.check(bytes.error(), "planning memory");
      auto device = meta.memory_planned_buffer_device(index);
      log.check(device.error(), "planning memory");
      if (!device->is_cpu()) log.fail(et::Error::NotSupported, "planning memory of a device");
      if (*bytes < 0) log.fail(et::Error::InvalidProgram, "planning memory");
      const auto size = static_cast<size_t>(*bytes);
      arenas_.push_back(allocate(size + kArenaAlignment));
      void* start = arenas_.back().get();
      size_t space = size + kArenaAlignment;
      std::align(kArenaAlignment, size, start, space);
      spans_.emplace_back(static_cast<uint8_t*>(start), size);
      planned_bytes_ += size;
    }
    planned_.emplace(et::Span<et::Span<uint8_t>>(spans_.data(), spans_.size()));
    manager_.emplace(&method_allocator_, &*planned_, &temporary_allocator_);
  }

  static std::string place(const char* side, size_t index) {
    return std::string(side) + " " + std::to_string(index);
  }

  // Of a library whose strides have 32 bits.
  static bool are_too_large(const std::vector<int32_t>& sizes) {
    int64_t numbers = 1;
    for (const int32_t size : sizes) {
      if (size < 0) return true;
      numbers *= std::max(size, 1);  // both have at most 31 bits
      if (numbers > std::numeric_limits<int32_t>::max()) return true;
    }
    return sizes.size() > kMaxAxes;
  }

  static Declared declared(const et::Result<et::TensorInfo>& info, const char* side, size_t index,
                           const Log& log) {
    if (!info.ok()) log.fail(info.error(), place(side, index));
    const auto order = info->dim_order();
    for (size_t axis = 0; axis < order.size(); ++axis) {
      if (order[axis] != axis) log.fail(et::Error::NotSupported, place(side, index) + " order");
    }
    if (!dtype_of(info->scalar_type())) {
      log.fail(et::Error::NotSupported, place(side, index) + " dtype");
    }
    std::vector<int32_t> sizes(info->sizes().begin(), info->sizes().end());
    if (are_too_large(sizes)) {
      log.fail(et::Error::InvalidProgram, place(side, index) + " sizes");
    }
    return {info->scalar_type(), std::move(sizes)};
  }

  void set_inputs(const std::vector<Array>& arrays, const Log& log) {
    if (arrays.size() != inputs.size()) {
      log.fail(et::Error::InvalidArgument, "expected " + std::to_string(inputs.size()) +
                                               " inputs, found " + std::to_string(arrays.size()));
    }
    for (size_t index = 0; index < arrays.size(); ++index) {
      set_input(index, arrays[index], log);
    }
  }

  void set_input(size_t index, const Array& array, const Log& log) {
    const Declared& wanted = inputs[index];
    if (array.dtype() != *dtype_of(wanted.type)) {
      log.fail(et::Error::InvalidArgument,
               place("input", index) + " must be " + name_of(wanted.type));
    }
    const size_t rank = wanted.sizes.size();
    if (array.ndim() != rank) {
      log.fail(et::Error::InvalidArgument,
               place("input", index) + " must have " + std::to_string(rank) + " axes");
    }
    int32_t sizes[kMaxAxes], strides[kMaxAxes];
    uint8_t order[kMaxAxes];
    int32_t stride = 1;
    for (size_t axis = rank; axis-- > 0;) {
      // Within the declared bound everything fits 32 bits, as the program's own tensors do.
      if (array.shape(axis) > static_cast<size_t>(wanted.sizes[axis])) {
        log.fail(et::Error::InvalidArgument, place("input", index) + " axis " +
                                                 std::to_string(axis) + " must be at most " +
                                                 std::to_string(wanted.sizes[axis]) + ", is " +
                                                 std::to_string(array.shape(axis)));
      }
      sizes[axis] = static_cast<int32_t>(array.shape(axis));
      strides[axis] = stride;
      order[axis] = static_cast<uint8_t>(axis);
      stride *= std::max(sizes[axis], 1);
    }
    // The library copies it into its arena, or reads it while it runs; it never writes there.
    executorch::aten::TensorImpl tensor(wanted.type, static_cast<ssize_t>(rank), sizes,
                                        const_cast<void*>(array.data()), order, strides);
    const et::Error error = method_->set_input(executorch::aten::Tensor(&tensor), index);
    if (error != et::Error::Ok) log.fail(error, place("input", index));
  }

  Output copy_output(size_t index, const Log& log) const {
    const et::EValue& value = method_->get_output(index);
    if (!value.isTensor()) log.fail(et::Error::InvalidType, place("output", index));
    const auto& tensor = value.toTensor();
    if (!dtype_of(tensor.scalar_type()) || (tensor.nbytes() > 0 && !tensor.const_data_ptr())) {
      log.fail(et::Error::InvalidType, place("output", index));
    }
    Output output{tensor.scalar_type(), {}, {nullptr, &std::free}};
    for (const auto size : tensor.sizes()) output.sizes.push_back(static_cast<size_t>(size));
    output.data.reset(static_cast<std::byte*>(std::malloc(tensor.nbytes() + 1)));
    if (!output.data) throw std::bad_alloc();
    if (tensor.nbytes() > 0) {
      std::memcpy(output.data.get(), tensor.const_data_ptr(), tensor.nbytes());
    }
    return output;
  }

  // In the order in which each stands on those above it.
  nb::bytes bytes_;
  Memory copy_{nullptr, &std::free};
  std::mutex mutex_;
  std::optional<BufferDataLoader> loader_;
  std::optional<et::Program> program_;
  std::vector<Memory> arenas_;
  std::vector<et::Span<uint8_t>> spans_;
  size_t planned_bytes_ = 0, threads_ = 1;
  MallocMemoryAllocator method_allocator_, temporary_allocator_;
  std::optional<et::HierarchicalAllocator> planned_;
  std::optional<et::MemoryManager> manager_;
  std::optional<et::Method> method_;
};

std::vector<std::string> operators() {
  std::vector<std::string> names;
  for (const et::Kernel& kernel : et::get_registered_kernels()) names.emplace_back(kernel.name_);
  return names;
}

std::vector<std::string> backends() {
  std::vector<std::string> names;
  for (size_t index = 0; index < et::get_num_registered_backends(); ++index) {
    if (auto name = et::get_backend_name(index); name.ok()) names.emplace_back(*name);
  }
  return names;
}

}  // namespace
}  // namespace edge_asr

NB_MODULE(_executorch, module) {
  using namespace edge_asr;
  module.attr("BUILT_FOR") = EXECUTORCH_VERSION;
  nb::exception<ExecuTorchError>(module, "ExecuTorchError", PyExc_RuntimeError);
  nb::class_<Declared>(module, "Declared")
      .def_prop_ro("dtype", [](const Declared& self) { return name_of(self.type); })
      .def_prop_ro("sizes", [](const Declared& self) { return nb::tuple(nb::cast(self.sizes)); });
  nb::class_<Method>(module, "Method")
      .def(nb::init<nb::bytes, const std::string&, size_t>(), nb::arg("program"), nb::arg("name"),
           nb::arg("threads"))
      .def_ro("inputs", &Method::inputs)
      .def_ro("outputs", &Method::outputs)
      .def_prop_ro("threads", &Method::threads)
      .def_prop_ro("planned_bytes", &Method::planned_bytes)
      .def("run", &Method::run, nb::arg("arrays"));
  module.def("operators", &operators);
  module.def("backends", &backends);
}
