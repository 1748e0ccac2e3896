package kafka

import "github.com/IBM/sarama"

// Partitioner maps the keys of a topic to partitions. One goroutine reuses it
// for all keys, and it allocates nothing.
type Partitioner struct {
	partitioner sarama.Partitioner
	message     sarama.ProducerMessage
	key         keyEncoder
}

// NewPartitioner returns a Partitioner of the given kind: crc32, fnv1a or
// murmur2. The default is murmur2, as in Kafka's Java client.
func NewPartitioner(kind, topic string) *Partitioner {
	p := &Partitioner{}
	switch kind {
	case "crc32":
		p.partitioner = sarama.NewConsistentCRCHashPartitioner(topic)
	case "fnv1a":
		p.partitioner = sarama.NewHashPartitioner(topic)
	default:
		p.partitioner = sarama.NewMurmur2Partitioner(topic)
	}
	p.message = sarama.ProducerMessage{Topic: topic, Key: &p.key}
	return p
}

// Of returns the partition of a key among the given number of partitions. It
// does not keep the key.
func (p *Partitioner) Of(key []byte, partitions int) int32 {
	p.key.key = key
	id, err := p.partitioner.Partition(&p.message, int32(partitions))
	if err != nil {
		return 0 // no hash partitioner fails on bytes
	}
	return id
}

// keyEncoder lends a record's key to sarama's partitioners without a copy.
type keyEncoder struct{ key []byte }

func (k *keyEncoder) Encode() ([]byte, error) { return k.key, nil }
func (k *keyEncoder) Length() int             { return len(k.key) }
