package verify

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"github.com/outboxstream/streamer/internal/failure"
)

const (
	spillMemory  = 16 << 20 // bytes waiting in memory, all buckets together
	bucketTarget = 40_000   // entries in a bucket, if the estimate was right
	minBuckets   = 64
	maxBuckets   = 4096
)

// spill keeps entries in buckets: in memory as long as they are few, otherwise
// in one temporary file. Adding is for concurrent use.
type spill struct {
	dir     string
	limit   int // bytes of a bucket that may wait in memory
	buckets []bucket

	mu   sync.Mutex // guards the fields below
	file *os.File
	size int64
}

type bucket struct {
	mu      sync.Mutex
	waiting []byte
	chunks  []chunk
}

// chunk is a piece of the file.
type chunk struct {
	offset int64
	length int
}

// newSpill creates buckets for roughly this many entries. dir is the folder for
// the file; empty is the system's folder for temporary files.
func newSpill(dir string, entries int64) *spill {
	count := int(min(max(entries/bucketTarget, minBuckets), maxBuckets))
	return &spill{dir: dir, limit: spillMemory / count, buckets: make([]bucket, count)}
}

// add stores a copy of the entry in the bucket that the hash chooses.
func (s *spill) add(hash uint64, entry []byte) error {
	b := &s.buckets[hash%uint64(len(s.buckets))]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = make([]byte, 0, min(s.limit, 4<<10))
	}
	if len(b.waiting) > 0 && len(b.waiting)+len(entry)+binary.MaxVarintLen32 > s.limit {
		if err := s.write(b); err != nil {
			return err
		}
	}
	b.waiting = binary.AppendUvarint(b.waiting, uint64(len(entry)))
	b.waiting = append(b.waiting, entry...)
	return nil
}

func noRoom(err error) error { return failure.Advise(err, "name a folder with room in --temp-dir") }

func (s *spill) write(b *bucket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "streamer-verify-*")
		if err != nil {
			return noRoom(fmt.Errorf("temporary file for the comparison: %w", err))
		}
		// A file without a name disappears however the process ends. Where that is
		// not possible, close removes it.
		_ = os.Remove(file.Name())
		s.file = file
	}
	if _, err := s.file.WriteAt(b.waiting, s.size); err != nil {
		return noRoom(fmt.Errorf("temporary file for the comparison, after %d bytes: %w", s.size, err))
	}
	b.chunks = append(b.chunks, chunk{s.size, len(b.waiting)})
	s.size += int64(len(b.waiting))
	b.waiting = b.waiting[:0]
	return nil
}

// read reads the entries of a bucket, each after its length, into a reused
// buffer.
func (s *spill) read(i int, buffer []byte) ([]byte, error) {
	b := &s.buckets[i]
	buffer = buffer[:0]
	for _, c := range b.chunks {
		start := len(buffer)
		buffer = append(buffer, make([]byte, c.length)...)
		if _, err := s.file.ReadAt(buffer[start:], c.offset); err != nil {
			return nil, fmt.Errorf("temporary file for the comparison: %w", err)
		}
	}
	buffer = append(buffer, b.waiting...)
	b.waiting, b.chunks = nil, nil
	return buffer, nil
}

// bytes is the size of the file.
func (s *spill) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func (s *spill) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name()) // see write
	}
}
