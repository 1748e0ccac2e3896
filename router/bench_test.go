package router

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/router/kafka"
)

// prompt is a cluster that acknowledges at once.
type prompt struct{ partitions int }

func (p *prompt) Refresh(string) error                           { return nil }
func (p *prompt) Partitions(string) (int, error)                 { return p.partitions, nil }
func (p *prompt) Leader(string, int32) (kafka.Connection, error) { return p, nil }
func (p *prompt) Create(string) error                            { return nil }
func (p *prompt) ID() (int64, int16)                             { return 1, 0 }
func (p *prompt) Renew() (time.Duration, error)                  { return time.Hour, nil }
func (p *prompt) Lapsed() error                                  { return nil }
func (*prompt) TopicSetting(string, string) (string, error) {
	return "", sarama.ErrTopicAuthorizationFailed
}
func (p *prompt) Remembers() time.Duration { return 24 * time.Hour }
func (p *prompt) Close() error             { return nil }

func (p *prompt) Admit(_ string, n int) (kafka.Admission, error) {
	return kafka.Admission{Ends: make([]int64, n)}, nil
}

func (p *prompt) AsyncProduce(request *sarama.ProduceRequest, callback sarama.ProduceCallback) error {
	response := &sarama.ProduceResponse{Blocks: map[string]map[int32]*sarama.ProduceResponseBlock{}}
	for topic, partitions := range model.Contents(request) {
		response.Blocks[topic] = map[int32]*sarama.ProduceResponseBlock{}
		for id := range partitions {
			response.Blocks[topic][id] = &sarama.ProduceResponseBlock{Offset: -1}
		}
	}
	callback(response, nil)
	return nil
}

// benchEvents are rows of about 300 bytes of JSON with many keys.
func benchEvents(n int) []*decoder.Event {
	events := make([]*decoder.Event, n)
	for i := range events {
		e := numbered(i, "order", fmt.Sprintf("order-%d", i*7919%n))
		e.Data = fmt.Appendf(nil, `{"n": %d, "text": "%0270d"}`, i, i)
		e.SetAttribute(decoder.TraceParent, []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
		events[i] = e
	}
	return events
}

// BenchmarkEncode measures the cost of encoding one record.
func BenchmarkEncode(b *testing.B) {
	for _, mode := range []Mode{Binary, Structured} {
		b.Run("mode="+string(mode), func(b *testing.B) {
			enc, batch, events := encoderFor(b, withMode(mode)), newBatch(), benchEvents(1000)
			batch.lends = &memory{limit: 4 << 20}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%1000 == 0 {
					batch.reset()
				}
				if err := tryEncode(enc, batch, events[n%1000]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkAppend measures the cost of an event from the decoder to an
// acknowledged batch, without compression and network.
func BenchmarkAppend(b *testing.B) {
	routes, err := NewRouter(someRules())
	if err != nil {
		b.Fatal(err)
	}
	config := someConfig()
	config.MaxBatchBytes, config.MaxInFlightBytes = 512<<10, 16<<20
	notified := make(chan struct{}, 1)
	tracker := checkpoint.NewTracker(0)
	p := NewProducer(config, &prompt{partitions: 12}, routes, tracker, nil, func() {
		select {
		case notified <- struct{}{}:
		default:
		}
	})
	defer p.Wait()
	defer p.Close()
	events := benchEvents(10_000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		e := events[n%len(events)]
		n++
		e.Position.Commit = commitOf(n)
		for {
			result, err := p.Append(e)
			if err != nil {
				b.Fatal(err)
			}
			if result == Appended {
				break
			}
			p.Stored(p.Marks(0))
			p.Flush(false)
			<-notified
			_ = p.Collect()
		}
		tracker.Mark(e.Position.Commit)
		if p.Ready() {
			_ = p.Collect()
			p.Flush(false)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkSeal measures the cost of a batch of one event besides its encoding.
func BenchmarkSeal(b *testing.B) {
	var mu sync.Mutex
	enc, events := encoderFor(b, someRules()), benchEvents(10)
	part := &partition{topic: &topic{name: orders}}
	batch := newBatch()
	batch.lends = &memory{limit: 1 << 20}
	var wire sarama.RecordBatch
	blank := make([]*sarama.Record, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := tryEncode(enc, batch, events[0]); err != nil {
			b.Fatal(err)
		}
		mu.Lock()
		part.enqueue(batch)
		sent := part.take()
		mu.Unlock()
		sent.wire(&wire, sent.body, codec{}, 1, 0, blank)
		part.sent = part.sent[:0]
		batch.reset()
	}
}

// BenchmarkCompress measures the cost of compressing an event, in batches of a
// thousand.
func BenchmarkCompress(b *testing.B) {
	const events = 1000
	enc, batch := encoderFor(b, someRules()), newBatch()
	for _, e := range benchEvents(events) {
		if err := tryEncode(enc, batch, e); err != nil {
			b.Fatal(err)
		}
	}
	for name, config := range map[string]ProducerConfig{
		"lz4": {Compression: "lz4"}, "snappy": {Compression: "snappy"}, "zstd": {Compression: "zstd"},
		"gzip": {Compression: "gzip"}, "gzip level 1": {Compression: "gzip", CompressionLevel: 1},
	} {
		b.Run(name, func(b *testing.B) {
			c := compressor{codec: codecOf(config)}
			b.ReportAllocs()
			var size int
			for b.Loop() {
				c.reset()
				compressed, err := c.compress(batch.body)
				if err != nil {
					b.Fatal(err)
				}
				size = len(compressed)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
			b.ReportMetric(float64(size)/events, "bytes/event")
		})
	}
}
