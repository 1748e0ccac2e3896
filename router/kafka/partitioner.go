package kafka

import "github.com/IBM/sarama"

// Partitioner tells which partition of a topic a key belongs to. It is reused from
// key to key, by one goroutine, and allocates nothing.
type Partitioner struct {
	partitioner sarama.Partitioner
	message     sarama.ProducerMessage
	key         keyEncoder
}

// NewPartitioner returns one of a kind: crc32, fnv1a, or murmur2, which is that of
// Java's client and the default.
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

// Of is the partition of a key, which is not kept, among so many.
func (p *Partitioner) Of(key []byte, partitions int) int32 {
	p.key.key = key
	id, err := p.partitioner.Partition(&p.message, int32(partitions))
	if err != nil {
		return 0 // none of the hash partitioners fails on bytes
	}
	return id
}

// keyEncoder lends a record's key to sarama's partitioners without a copy.
type keyEncoder struct{ key []byte }

func (k *keyEncoder) Encode() ([]byte, error) { return k.key, nil }
func (k *keyEncoder) Length() int             { return len(k.key) }
