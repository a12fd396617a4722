#include "controlplane/discovery/messages/dns_message.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include <ares.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"

namespace sluice {

namespace {

constexpr size_t kHeaderBytes = 12;
constexpr uint16_t kMaxPriority = 65534;  // as the configuration's
constexpr size_t kSrvFixedBytes = 6;      // priority, weight, port
constexpr int kClassIn = 1;
enum RecordType : int { kTypeA = 1, kTypeCname = 5, kTypeAaaa = 28, kTypeSrv = 33 };

// Goes through a message. Reading beyond its end makes it not ok, and gives zeros.
class Reader {
 public:
  explicit Reader(std::string_view message) : message_(message) {}

  bool ok() const { return ok_; }
  size_t place() const { return place_; }

  void skip(size_t count) {
    if (count > message_.size() - place_) return fail();
    place_ += count;
  }

  uint16_t number16() {
    const std::string_view bytes = take(2);
    if (bytes.size() != 2) return 0;
    return static_cast<uint16_t>(static_cast<uint8_t>(bytes[0]) << 8 | static_cast<uint8_t>(bytes[1]));
  }

  uint32_t number32() {
    const uint32_t high = number16();
    return high << 16 | number16();
  }

  std::string_view take(size_t count) {
    const size_t begin = place_;
    skip(count);
    return ok_ ? message_.substr(begin, count) : std::string_view();
  }

  // A name, whose end may stand elsewhere in the message.
  std::string name() {
    char *text = nullptr;
    long length = 0;
    const auto *begin = reinterpret_cast<const unsigned char *>(message_.data());
    if (!ok_ || place_ >= message_.size() ||
        ares_expand_name(begin + place_, begin, static_cast<int>(message_.size()), &text, &length) !=
            ARES_SUCCESS) {
      fail();
      return "";
    }
    const std::unique_ptr<char, void (*)(void *)> owner(text, ares_free_string);
    skip(static_cast<size_t>(length));
    return text;
  }

 private:
  void fail() { ok_ = false; }

  std::string_view message_;
  size_t place_ = 0;
  bool ok_ = true;
};

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return text;
}

Address address_of(std::string_view bytes) {
  Address address{};
  auto *place = reinterpret_cast<char *>(&address);
  if (bytes.size() == 16) {
    std::memcpy(place, bytes.data(), 16);
  } else {
    place[10] = place[11] = static_cast<char>(0xff);
    std::memcpy(place + 12, bytes.data(), 4);
  }
  return address;
}

// One record of the answer section; false: it is damaged.
bool read_record(Reader *reader, DnsRecords *records) {
  (void)reader->name();  // whose it is: the name that was asked for, or what it stands for
  const int type = reader->number16();
  const int record_class = reader->number16();
  const uint32_t ttl = reader->number32();
  const uint16_t length = reader->number16();
  const size_t end = reader->place() + length;
  Reader data = *reader;  // a name in it may point to the whole message
  reader->skip(length);
  if (!reader->ok()) return false;
  if (record_class != kClassIn) return true;
  if ((type == kTypeA && length == 4) || (type == kTypeAaaa && length == 16)) {
    records->addresses.push_back(address_of(data.take(length)));
  } else if (type == kTypeSrv && length > kSrvFixedBytes) {
    DnsTarget target;
    target.priority = std::min(data.number16(), kMaxPriority);
    target.weight = data.number16();
    target.l4_port = data.number16();
    target.name = lower_case(data.name());
    if (!data.ok() || data.place() > end) return false;
    records->targets.push_back(std::move(target));
  } else if (type == kTypeA || type == kTypeAaaa || type == kTypeSrv) {
    return false;
  } else if (type != kTypeCname) {
    return true;  // RRSIG, DNAME and others say nothing here
  }
  // RFC 2181 section 8: with the highest bit set it is 0
  const std::chrono::seconds own(ttl > 0x7fffffff ? 0 : ttl);
  records->ttl = std::min(records->ttl, own);
  return true;
}

// Nothing: it is no destination.
std::optional<FoundBackend> backend_of(const Address &address, uint16_t weight, SkippedEntries *skipped) {
  if (const char *fault = address_fault(address)) {
    skipped->add(fmt::format("{} {}", format_address(address), fault));
    return std::nullopt;
  }
  FoundBackend backend;
  backend.name = address_name(address);
  backend.address = address;
  backend.weight = weight;
  return backend;
}

}  // namespace

Result<DnsRecords> parse_dns_answer(std::string_view message) {
  Reader reader(message);
  reader.skip(4);  // number, flags
  const int questions = reader.number16();
  const int answers = reader.number16();
  reader.skip(kHeaderBytes - 8);
  for (int i = 0; i < questions && reader.ok(); ++i) {
    (void)reader.name();
    reader.skip(4);  // type, class
  }
  DnsRecords records;
  records.ttl = std::chrono::seconds::max();
  for (int i = 0; i < answers; ++i) {
    if (!reader.ok() || !read_record(&reader, &records)) return Error{"the answer is damaged"};
  }
  if (!reader.ok()) return Error{"the answer is damaged"};
  if (records.ttl == std::chrono::seconds::max()) records.ttl = std::chrono::seconds(0);
  return records;
}

Answer address_backends(const std::vector<Address> &addresses, uint16_t weight) {
  Answer answer;
  for (const Address &address : addresses) {
    if (const auto backend = backend_of(address, weight, &answer.skipped))
      answer.backends.push_back(*backend);
  }
  return answer;
}

Answer target_backends(const std::vector<DnsTarget> &targets,
                       const std::map<std::string, std::vector<Address>> &addresses, uint16_t weight) {
  Answer answer;
  std::vector<uint32_t> weights;
  for (const DnsTarget &target : targets) {
    if (target.name.empty()) continue;  // RFC 2782: decidedly not there
    const auto found = addresses.find(target.name);
    if (found == addresses.end() || found->second.empty()) {
      answer.skipped.add(fmt::format("target {} has no address", in_quotes(target.name)));
      continue;
    }
    for (const Address &address : found->second) {
      auto backend = backend_of(address, weight, &answer.skipped);
      if (!backend) continue;
      backend->priority = target.priority;
      backend->check_port = target.l4_port;
      answer.backends.push_back(*backend);
      weights.push_back(target.weight);
    }
  }
  scale_weights(&answer.backends, weights, weight);
  return answer;
}

}  // namespace sluice
