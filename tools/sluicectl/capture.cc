#include "tools/sluicectl/capture.h"

#include <array>
#include <memory>

#include <pcap/pcap.h>

namespace sluice::ctl {

Result<CapturedFrame> read_capture(const std::string &file, uint64_t number) {
  std::array<char, PCAP_ERRBUF_SIZE> problem{};
  const std::unique_ptr<pcap_t, decltype(&pcap_close)> capture(
      pcap_open_offline(file.c_str(), problem.data()), pcap_close);
  if (capture == nullptr) return Error{"cannot read a capture from " + file + ": " + problem.data()};
  if (pcap_datalink(capture.get()) != DLT_EN10MB) {
    const char *name = pcap_datalink_val_to_name(pcap_datalink(capture.get()));
    return Error{file + " is a capture of link type " + (name == nullptr ? "(unknown)" : name) +
                 ", not Ethernet: capture on one interface (tcpdump -i NAME), not on any"};
  }
  pcap_pkthdr *header = nullptr;
  const u_char *data = nullptr;
  for (uint64_t i = 1;; i++) {
    const int got = pcap_next_ex(capture.get(), &header, &data);
    if (got == PCAP_ERROR_BREAK)
      return Error{file + " has " + std::to_string(i - 1) + " packets, none of number " +
                   std::to_string(number)};
    if (got != 1)
      return Error{"cannot read packet " + std::to_string(i) + " of " + file + ": " +
                   pcap_geterr(capture.get())};
    if (i == number) return CapturedFrame{{data, data + header->caplen}, header->len};
  }
}

}  // namespace sluice::ctl
