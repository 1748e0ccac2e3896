package checkpoint

import (
	"context"
	"fmt"
)

// Log is what KafkaStore needs from a compacted topic.
type Log interface {
	// Last returns the newest value under key, nil if there is none.
	Last(ctx context.Context, key []byte) ([]byte, error)
	// Find returns the newest value whose key matches, nil if there is none.
	Find(ctx context.Context, matches func(key []byte) bool) ([]byte, error)
	// Append writes a value and returns once it would survive a crash.
	Append(ctx context.Context, key, value []byte) error
	// Name is the topic's name.
	Name() string
}

// KafkaStore keeps records in a compacted topic, keyed by Identity.Key, so that
// many streamers can share it and none needs a disk.
type KafkaStore struct{ log Log }

var _ Store = (*KafkaStore)(nil)

// NewKafka returns a store in the topic. It does not own the log.
func NewKafka(log Log) *KafkaStore { return &KafkaStore{log} }

// Load reads the topic up to its end.
func (s *KafkaStore) Load(ctx context.Context, id Identity) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, fmt.Errorf("load checkpoint from %s: %w", s.where(), err)
	}
	stored, err := s.log.Last(ctx, []byte(id.Key()))
	if err != nil {
		return Record{}, fmt.Errorf("load checkpoint from %s: %w", s.where(), err)
	}
	if stored == nil {
		return Record{}, fmt.Errorf("%s: %w", s.where(), ErrNone)
	}
	return Decode(stored, id, s.where())
}

// Former finds the record of the same slot under another name of its database.
func (s *KafkaStore) Former(ctx context.Context, id Identity) (Record, error) {
	stored, err := s.log.Find(ctx, func(key []byte) bool { return id.renamed(string(key)) })
	if err != nil {
		return Record{}, fmt.Errorf("look for a checkpoint under another name in %s: %w", s.where(), err)
	}
	return former([][]byte{stored}, id, s.where())
}

// Claim does nothing: the broker keeps out producers with an earlier epoch of
// the producer ID.
func (s *KafkaStore) Claim(context.Context, Identity) error { return nil }

// Save appends the record.
func (s *KafkaStore) Save(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save checkpoint to %s: %w", s.where(), err)
	}
	encoded, err := Encode(r)
	if err != nil {
		return err
	}
	if err := s.log.Append(ctx, []byte(r.Key()), encoded); err != nil {
		return fmt.Errorf("save checkpoint to %s: %w", s.where(), err)
	}
	return nil
}

func (s *KafkaStore) where() string { return fmt.Sprintf("topic %q", s.log.Name()) }

// Close does nothing; the log belongs to its creator.
func (s *KafkaStore) Close() error { return nil }
