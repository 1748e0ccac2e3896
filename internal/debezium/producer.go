package debezium

import (
	"errors"
	"strings"
)

// producer translates how records are sent.
func (t *translator) producer() {
	t.copied(producerPrefix+"bootstrap.servers", "kafka.brokers", brokers)
	if _, isSet := t.settings["kafka.brokers"]; !isSet && t.remarks["kafka.brokers"] == "" {
		t.remark("kafka.brokers", "Not in the file: the worker names the brokers (bootstrap.servers).")
		t.refusals = append(t.refusals, Entry{
			Option: "bootstrap.servers (not set: the worker decides)", Says: "the file does not name the brokers",
			Action: "set kafka.brokers, kafka.tls and kafka.sasl; or import the worker's properties as well",
		})
	}
	t.compression()
	t.copied(producerPrefix+"linger.ms", "kafka.linger", milliseconds)
	t.copied(producerPrefix+"request.timeout.ms", "kafka.request_timeout", milliseconds)
	t.copied(producerPrefix+"client.id", "kafka.client_id", nil)
	t.copied(producerPrefix+"max.request.size", "kafka.max_record_bytes", nil)
	t.acknowledgements()
	t.partitioner()
	for _, name := range []string{"key.serializer", "value.serializer"} {
		t.same(producerPrefix+name, "keys and values are bytes", "kafka.key")
	}
}

// brokers leaves out the protocol that Kafka's clients allow before an address.
func brokers(servers string) (string, error) {
	var all []string
	for server := range strings.SplitSeq(servers, ",") {
		if _, address, ok := strings.Cut(server, "://"); ok {
			server = address
		}
		if server = strings.TrimSpace(server); server != "" {
			all = append(all, server)
		}
	}
	if len(all) == 0 {
		return "", errors.New("it names no broker")
	}
	return strings.Join(all, ","), nil
}

// compression keeps that of the connector, because consumers may lack another
// codec.
func (t *translator) compression() {
	const name, key = producerPrefix + "compression.type", "kafka.compression"
	if !t.has(name) {
		t.set(key, "none", "As the connector, which sets no compression.type: consumers may lack a codec. With lz4, batches are smaller.")
	}
	t.copied(name, key, nil)
	for _, codec := range []string{"gzip", "zstd"} {
		level := producerPrefix + "compression." + codec + ".level"
		if t.value(name, "none") == codec {
			t.copied(level, "kafka.compression_level", nil)
		} else {
			t.same(level, "no effect with another codec")
		}
	}
	t.lacks(producerPrefix+"compression.lz4.level", "the streamer compresses with lz4's fast level", nothingToDo)
}

func (t *translator) acknowledgements() {
	const name, idempotence = producerPrefix + "acks", producerPrefix + "enable.idempotence"
	if acks := t.value(name, "all"); acks == "all" || acks == "-1" {
		t.same(name, "the streamer always waits for all in-sync replicas")
	} else {
		t.differs(name, "the streamer always waits for all in-sync replicas", "latency, and topics with min.insync.replicas")
	}
	if t.isTrue(idempotence, true) {
		t.same(idempotence, "the streamer's producer is always idempotent")
	} else {
		t.differs(idempotence, "the streamer's producer is always idempotent",
			"the rights of the principal: IdempotentWrite on brokers before 2.8")
	}
}

// How the producer chooses partitions.
const (
	partitionerClass       = producerPrefix + "partitioner.class"
	partitionerIgnoresKeys = producerPrefix + "partitioner.ignore.keys"
	defaultPartitioner     = "DefaultPartitioner"
)

func (t *translator) partitioner() {
	const name, key = partitionerClass, "kafka.partitioner"
	const action = "let consumers finish what the connector has published before the streamer starts: keys go to other partitions"
	const byKey = "the streamer chooses the partition by a hash of the key"
	switch class := shortClass(t.value(name, defaultPartitioner)); class {
	case defaultPartitioner:
		t.same(name, "murmur2 of the key", key)
	default:
		t.lacks(name, byKey, action)
	}
	const ignore = partitionerIgnoresKeys
	if t.isTrue(ignore, false) {
		t.lacks(ignore, byKey, action)
	} else {
		t.same(ignore, byKey, key)
	}
}
