// A worker between two capture files: what a customer's capture does can be tried without a network.
#include <cstdio>

#include <gtest/gtest.h>

#include "tests/dpdk/engine_fixture.h"

namespace sluice {
namespace {

struct PcapFileHeader {
  uint32_t magic = 0xa1b2c3d4;
  uint16_t major = 2;
  uint16_t minor = 4;
  uint32_t zone = 0;
  uint32_t accuracy = 0;
  uint32_t longest = 65535;
  uint32_t link_type = 1;  // Ethernet
};

struct PcapRecordHeader {
  uint32_t seconds = 0;
  uint32_t microseconds = 0;
  uint32_t captured = 0;  // bytes
  uint32_t length = 0;    // bytes
};

void write_pcap(const std::string &path, const std::vector<FrameBytes> &frames) {
  FILE *file = fopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  PcapFileHeader header;
  fwrite(&header, sizeof(header), 1, file);
  for (const FrameBytes &frame : frames) {
    PcapRecordHeader record;
    record.captured = record.length = static_cast<uint32_t>(frame.size());
    fwrite(&record, sizeof(record), 1, file);
    fwrite(frame.data(), 1, frame.size(), file);
  }
  fclose(file);
}

std::vector<FrameBytes> read_pcap(const std::string &path) {
  std::vector<FrameBytes> frames;
  FILE *file = fopen(path.c_str(), "rb");
  if (!file) return frames;
  PcapFileHeader header;
  PcapRecordHeader record;
  bool good = fread(&header, sizeof(header), 1, file) == 1;
  while (good && fread(&record, sizeof(record), 1, file) == 1) {
    FrameBytes frame(record.captured);
    good = fread(frame.data(), 1, frame.size(), file) == frame.size();
    if (good) frames.push_back(frame);
  }
  fclose(file);
  return frames;
}

/// What must come out for an IPv4 segment from 203.0.113.1 to the VIP: written down, not computed by
/// the code under test.
FrameBytes expected_ipip(const FrameBytes &frame) {
  FrameBytes out = {2,    0, 0, 0, 0,  9, 2,    0, 0,  0, 0, 1, 0x08, 0x00,  // Ethernet
                    0x45, 0, 0, 0, 0,  0, 0x40, 0, 64, 4, 0, 0,              // IPv4, DF as inside, protocol 4
                    10,   9, 0, 1, 10, 1, 0,    11};
  out.insert(out.end(), frame.begin() + 14, frame.end());
  put_be16(&out, 16, static_cast<uint16_t>(out.size() - 14));
  put_be16(&out, 24, internet_checksum(&out[14], 20));
  out[34 + 8] -= 1;
  put_be16(&out, 34 + 10, 0);
  put_be16(&out, 34 + 10, internet_checksum(&out[34], 20));
  return out;
}

TEST(PcapPort, a_capture_goes_in_and_the_expected_bytes_come_out) {
  Regions regions(1);
  std::vector<FrameBytes> in;
  std::vector<FrameBytes> expected;
  for (uint16_t flow = 0; flow < 100; flow++) {
    TestSegment segment;
    segment.client = parse_address("203.0.113.1");
    segment.vip = parse_address("198.51.100.10");
    segment.client_port = static_cast<uint16_t>(30000 + flow);
    segment.payload = flow * 10u;
    in.push_back(tcp_frame(segment));
    expected.push_back(expected_ipip(in.back()));
    // Not for a VIP, and not IP: the kernel's.
    segment.vip = parse_address("198.51.100.99");
    in.push_back(tcp_frame(segment));
    in.push_back(arp_request(segment.client, segment.vip));
    in.push_back(FrameBytes(in.front().begin(), in.front().begin() + 20));  // cut short
  }
  std::string in_path = regions.directory() / "in.pcap";
  std::string out_path = regions.directory() / "out.pcap";
  write_pcap(in_path, in);

  SnapshotBuilder builder;
  uint32_t backend = builder.add_backend("web", "b1", "10.1.0.11");
  builder.add_vip("198.51.100.10", {{80, 80, builder.add_service("web", builder.add_pool({backend}))}});
  DpdkEngineOptions options;
  options.idle = IdlePolicy::kSleep;
  options.ports = {parse_port_options("name=capture,kernel=none,mtu=1600,device=net_pcap:rx_pcap=" + in_path +
                                      ";tx_pcap=" + out_path)
                       .value()};
  {
    auto engine = DpdkEngine::create(options, &regions.counters(), &regions.connections());
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    install(engine.value().get(), make_tables(builder));
    ASSERT_TRUE(engine.value()->start().ok());
    ASSERT_TRUE(eventually([&] { return all_verdicts(regions.counters()) >= in.size(); }))
        << all_verdicts(regions.counters());
  }
  EXPECT_EQ(read_pcap(out_path), expected);
  EXPECT_EQ(received_packets(regions.counters()), in.size());
  EXPECT_EQ(all_verdicts(regions.counters()), in.size());
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictForwardNew), 100u);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictDropKernelQueueFull), 200u);
  EXPECT_EQ(verdict_count(regions.counters(), kVerdictDropIpv4Truncated), 100u);
}

}  // namespace
}  // namespace sluice
