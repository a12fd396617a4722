// libxdp's handles as both engines hold them: the XDP engine under a dispatcher, the DPDK engine to take away
// what libxdp left on a port.
#ifndef SLUICE_DATAPLANE_LIBXDP_HANDLES_H
#define SLUICE_DATAPLANE_LIBXDP_HANDLES_H

#include <cstdarg>
#include <memory>

#include <xdp/libxdp.h>

namespace sluice {

/// While it lives, libxdp is silent: it writes to stderr by itself, and what matters of it is in our own
/// errors.
class QuietLibxdp {
 public:
  QuietLibxdp() : before_(libxdp_set_print(print_nothing)) {}
  QuietLibxdp(const QuietLibxdp &) = delete;
  QuietLibxdp &operator=(const QuietLibxdp &) = delete;
  ~QuietLibxdp() { libxdp_set_print(before_); }

 private:
  static int print_nothing(libxdp_print_level /*level*/, const char * /*format*/, va_list /*arguments*/) {
    return 0;
  }

  libxdp_print_fn_t before_;
};

struct MultiprogDeleter {
  void operator()(xdp_multiprog *programs) const { xdp_multiprog__close(programs); }
};

/// The programs on an interface, closed with this.
using Multiprog = std::unique_ptr<xdp_multiprog, MultiprogDeleter>;

}  // namespace sluice

#endif
