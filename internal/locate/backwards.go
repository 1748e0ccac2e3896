package locate

import (
	"context"
	"sync"

	"github.com/outboxstream/streamer/router/kafka"
)

// chunk is how many offsets of a partition Backwards reads at once.
const chunk = 1 << 14

// Backwards reads the parts of logs between From and End, a chunk at a time and
// the last ones first, a few at the same time. It calls visit from several
// goroutines. It ends at the beginnings of the parts, with the context, which is
// no error, or when enough reports true; what comes after the chunks that are
// being read has been read then. It returns the parts that it has read as a
// whole: those with other values of From.
func Backwards(
	ctx context.Context, s Scanner, logs []kafka.Log, parallel int, visit func(kafka.Log, *kafka.LogRecord), enough func() bool,
) (read []kafka.Log, err error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pieces := make(chan piece)
	done := make([][]bool, len(logs))
	var mu sync.Mutex
	var readers sync.WaitGroup
	for range max(1, parallel) {
		readers.Go(func() {
			for p := range pieces {
				if err := s.Scan(inner, p.log, func(r *kafka.LogRecord) error {
					visit(p.log, r)
					return nil
				}); err != nil {
					cancel(err) // what is still handed out ends at once
					continue
				}
				mu.Lock()
				for len(done[p.of]) <= p.number {
					done[p.of] = append(done[p.of], false)
				}
				done[p.of][p.number] = true
				mu.Unlock()
			}
		})
	}
	for p := range chunks(logs) {
		if enough() || inner.Err() != nil {
			break
		}
		select {
		case pieces <- p:
		case <-inner.Done():
		}
	}
	close(pieces)
	readers.Wait()
	if ctx.Err() == nil {
		err = context.Cause(inner)
	}
	return finished(logs, done), err
}

// piece is a chunk of one of several logs. Numbers count from the end.
type piece struct {
	log    kafka.Log
	of     int
	number int
}

// chunks returns the chunks of all logs in turn.
func chunks(logs []kafka.Log) func(yield func(piece) bool) {
	return func(yield func(piece) bool) {
		for number, more := 0, true; more; number++ {
			more = false
			for of, log := range logs {
				part := log
				part.End = log.End - int64(number)*chunk
				part.From = max(log.From, part.End-chunk)
				if part.From >= part.End {
					continue
				}
				more = true
				if !yield(piece{part, of, number}) {
					return
				}
			}
		}
	}
}

// finished returns the parts of the logs of which every chunk up to the end was
// read.
func finished(logs []kafka.Log, done [][]bool) (read []kafka.Log) {
	for of, log := range logs {
		whole := int64(0)
		for _, ok := range done[of] {
			if !ok {
				break
			}
			whole++
		}
		log.From = max(log.From, log.End-whole*chunk)
		read = append(read, log)
	}
	return read
}
