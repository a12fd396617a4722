#include "dataplane/xdp/pins.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char *kMountSource = "sluice-dataplane";  // by which a mount is known as this program's
constexpr const char *kUsualBpffs = "/sys/fs/bpf";
constexpr std::string_view kLinkPrefix = "link-";
constexpr std::string_view kEntryPrefix = "entry-";
constexpr std::string_view kJumpPrefix = "jump-";
constexpr std::string_view kTailCallsPrefix = "tail-calls-";
constexpr std::string_view kBesideSuffix = "+";  // of a pin that is about to take another's place

std::string errno_text() { return std::strerror(errno); }  // NOLINT(concurrency-mt-unsafe)

bool is_on_bpffs(const fs::path &path) {
  struct statfs filesystem = {};
  return ::statfs(path.c_str(), &filesystem) == 0 && filesystem.f_type == BPF_FS_MAGIC;
}

bool is_under(const fs::path &path, const fs::path &folder) {
  return path.lexically_normal().string().starts_with(folder.string() + "/");
}

Status mount_bpffs(const fs::path &at) {
  if (::mount(kMountSource, at.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0)
    return Error{
        fmt::format("--bpf-directory: cannot mount a bpffs at \"{}\": {}", at.string(), errno_text())};
  spdlog::info(
      "mounted a bpffs at {}; when this process has a mount namespace of its own (ip netns exec makes one, "
      "nsenter --net does not), what is pinned there goes with it",
      at.string());
  return Done{};
}

/// The nearest folder above `path` that is there.
fs::path existing_above(const fs::path &path) {
  std::error_code ignored;
  fs::path above = path.lexically_normal().parent_path();
  while (!fs::exists(above, ignored) && above.has_relative_path()) above = above.parent_path();
  return above;
}

Error cannot_make(const fs::path &path, const std::string &cause) {
  return Error{fmt::format("--bpf-directory: cannot make \"{}\": {}", path.string(), cause)};
}

/// Makes `directory` a directory on a bpffs.
Status make_directory(const fs::path &directory) {
  if (is_on_bpffs(directory)) return Done{};
  std::error_code error;
  const fs::path parent = directory.parent_path();
  // Nothing can be made in the sysfs that lies there without a bpffs. One that is there must not be hidden.
  if (!is_on_bpffs(existing_above(directory)) && is_under(directory, kUsualBpffs)) {
    Status mounted = mount_bpffs(kUsualBpffs);
    if (!mounted.ok()) return mounted;
  }
  fs::create_directories(parent, error);
  if (error) return cannot_make(parent, error.message());
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return cannot_make(directory, errno_text());
  return is_on_bpffs(directory) ? Status(Done{}) : mount_bpffs(directory);
}

/// Whether this program has mounted a filesystem exactly there.
bool is_mounted_by_us(const fs::path &directory) {
  std::ifstream mounts("/proc/self/mounts");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream fields(line);
    std::string source;
    std::string target;
    fields >> source >> target;
    if (source == kMountSource && target == directory) return true;
  }
  return false;
}

/// What is pinned under one name is of one kind; its type and identifier tell two of them apart.
struct PinnedObject {
  uint32_t type = 0;
  uint32_t id = 0;
  bool operator==(const PinnedObject &) const = default;
};

PinnedObject object_of(int fd) {
  PinnedObject object;  // what the kernel's records of maps, programs and links all begin with
  uint32_t size = sizeof(object);
  return bpf_obj_get_info_by_fd(fd, &object, &size) == 0 ? object : PinnedObject{};
}

/// A bpffs that was just mounted has files of the kernel's own in it.
bool is_kernels_own(const std::string &name) { return name == "maps.debug" || name == "progs.debug"; }

bool has_pins(const fs::path &directory) {
  std::error_code ignored;
  for (const auto &entry : fs::directory_iterator(directory, ignored))
    if (!is_kernels_own(entry.path().filename())) return true;
  return false;
}

}  // namespace

std::string link_pin(std::string_view port) { return fmt::format("{}{}", kLinkPrefix, port); }

std::string entry_pin(std::string_view port) { return fmt::format("{}{}", kEntryPrefix, port); }

std::string jump_pin(std::string_view port) { return fmt::format("{}{}", kJumpPrefix, port); }

std::string tail_calls_pin(uint32_t program_id) { return fmt::format("{}{}", kTailCallsPrefix, program_id); }

Result<Pins> Pins::lock(const fs::path &directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid())
    return Error{fmt::format("--bpf-directory: cannot open \"{}\": {}", directory.string(), errno_text())};
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{fmt::format(
        "--bpf-directory: \"{}\": cannot lock: {}; another sluice-dataplane uses it: stop that one "
        "or give this one another directory",
        directory.string(), errno_text())};
  return Pins(directory, std::move(fd));
}

Result<Pins> Pins::open(const fs::path &directory) {
  const Status made = make_directory(directory);
  if (!made.ok()) return made.error();
  return lock(directory);
}

Result<std::optional<Pins>> Pins::open_existing(const fs::path &directory) {
  if (!is_on_bpffs(directory)) return std::optional<Pins>();
  Result<Pins> pins = lock(directory);
  if (!pins.ok()) return pins.error();
  const auto is_there = [&pins](std::string_view name) { return !pins.value().names_after(name).empty(); };
  const bool holds = is_there(kConnectionsPin) || is_there(kCountersPin) || is_there(kTailCallsPrefix) ||
                     !pins.value().ports().empty();
  if (!holds) return std::optional<Pins>();
  return std::optional<Pins>(std::move(pins).value());
}

UniqueFd Pins::get(std::string_view name) const { return UniqueFd(bpf_obj_get(file(name).c_str())); }

std::vector<std::string> Pins::names_after(std::string_view prefix) const {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto &entry : fs::directory_iterator(directory_, ignored)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
  }
  return names;
}

std::vector<std::string> Pins::ports() const {
  std::vector<std::string> ports = names_after(kLinkPrefix);
  for (std::string &port : names_after(kEntryPrefix)) ports.push_back(std::move(port));
  return ports;
}

Status Pins::remove_tail_calls(uint32_t but_of_program_id) const {
  std::vector<std::string> staying;
  for (const std::string &id : names_after(kTailCallsPrefix)) {
    if (but_of_program_id != 0 && id == fmt::format("{}", but_of_program_id)) continue;
    const Status removed = remove(fmt::format("{}{}", kTailCallsPrefix, id));
    if (!removed.ok()) staying.push_back(removed.error().message);
  }
  if (!staying.empty()) return Error{fmt::format("{}", fmt::join(staying, "; "))};
  return Done{};
}

Status Pins::put(std::string_view name, int fd) const {
  const auto is_same = [fd](const UniqueFd &there) {
    return there.valid() && object_of(there.get()) == object_of(fd);
  };
  if (is_same(get(name))) return Done{};
  // Whatever is there goes in the same step: it may be all that holds connections.
  const std::string name_beside = fmt::format("{}{}", name, kBesideSuffix);
  const fs::path beside = file(name_beside);
  // What an interrupted put() left may be all that holds a port's link, and is not taken away first.
  if (!is_same(get(name_beside))) {
    ::unlink(beside.c_str());
    if (bpf_obj_pin(fd, beside.c_str()) != 0)
      return Error{fmt::format("{}: cannot pin: {}", beside.string(), errno_text())};
  }
  if (::rename(beside.c_str(), file(name).c_str()) == 0) return Done{};
  const Error error{fmt::format("{}: cannot rename: {}", beside.string(), errno_text())};
  ::unlink(beside.c_str());
  return error;
}

Status Pins::remove(std::string_view name) const {
  // What an interrupted put() left; of a port's link it may be all that holds it, and is found as a port.
  if (!name.starts_with(kLinkPrefix)) ::unlink(file(fmt::format("{}{}", name, kBesideSuffix)).c_str());
  if (::unlink(file(name).c_str()) == 0 || errno == ENOENT) return Done{};
  return Error{fmt::format("{}: cannot remove: {}", file(name).string(), errno_text())};
}

void Pins::remove_directory() const {
  if (has_pins(directory_)) return;
  // The lock is on what was mounted, which lives as long as the descriptor.
  if (is_mounted_by_us(directory_)) ::umount2(directory_.c_str(), MNT_DETACH);
  ::rmdir(directory_.c_str());
}

}  // namespace sluice
