// What ExecuTorch says about an error, kept for the exception instead of printed.
#pragma once

#include <executorch/runtime/core/error.h>
#include <executorch/runtime/platform/platform.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace edge_asr {

namespace et = executorch::runtime;

struct ExecuTorchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// While one lives, its thread's log goes to it instead of the terminal.
class Log {
 public:
  Log() { current = this; }
  ~Log() { current = nullptr; }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Throws what an error of the library means.
  void check(et::Error error, const char* doing) const {
    if (error != et::Error::Ok) fail(error, doing);
  }

  [[noreturn]] void fail(et::Error error, const std::string& doing) const {
    std::string name = et::to_string(error);
    if (const auto colons = name.rfind(':'); colons != std::string::npos) name.erase(0, colons + 1);
    throw ExecuTorchError(doing + ": " + name + (first_.empty() ? "" : ": " + first_));
  }

  // Before each use, with Python's lock held: the package's own binding, imported since, takes the
  // log for itself.
  static void install() {
    if (et::get_pal_impl()->emit_log_message == &emit) return;
    et::PalImpl hooks = previous = *et::get_pal_impl();
    hooks.emit_log_message = &emit;
    hooks.abort = &end;
    et::register_pal(hooks);
  }

 private:
  static void emit(et_timestamp_t time, et_pal_log_level_t level, const char* file,
                   const char* function, size_t line, const char* message, size_t length) {
    if (!current) {
      if (auto* print = previous.emit_log_message) {
        print(time, level, file, function, line, message, length);
      }
    } else if (level == et_pal_log_level_t::kFatal) {
      current->first_.assign(message, length);
    } else if (level == et_pal_log_level_t::kError && current->first_.empty()) {
      current->first_.assign(message, length);  // the cause; what follows is its consequences
    }
  }

  // The library ends the process when a damaged program breaks what it takes for granted. Leave
  // it through all its frames instead: the program is lost, the process is not.
  static void end() {
    if (!current) previous.abort();
    current->fail(et::Error::InvalidProgram, "an assertion failed");
  }

  inline static et::PalImpl previous{};
  inline static thread_local Log* current = nullptr;
  std::string first_;
};

}  // namespace edge_asr
