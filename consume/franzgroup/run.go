package franzgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
)

// Run joins the consumer's group and handles events until ctx ends, which is no
// error, or something is wrong that trying again does not mend. The options are
// those of the client: brokers, TLS, SASL, balancers, and how soon new partitions
// are noticed (kgo.MetadataMaxAge). Run adds the group and its topics.
func Run(ctx context.Context, consumer *consume.Consumer, options ...kgo.Opt) error {
	k := &kafka{options: options}
	return consumer.Run(ctx, k, func(ctx context.Context) error {
		r := &run{consumer: consumer, assigned: map[place]*assignment{}, ready: make(chan struct{})}
		client, err := kgo.NewClient(append(append([]kgo.Opt{}, options...),
			kgo.ConsumerGroup(consumer.Group()),
			kgo.ConsumeTopics(consumer.Topics()...),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // the first events of a new partition count, too
			kgo.DisableAutoCommit(),
			kgo.AdjustFetchOffsetsFn(r.assign),
			kgo.OnPartitionsRevoked(r.revoke),
			kgo.OnPartitionsLost(r.lose),
		)...)
		if err != nil {
			return fmt.Errorf("consumer group %q: %w", consumer.Group(), err)
		}
		r.client, k.client = client, client
		close(r.ready)       // a new client joins its group at once
		defer client.Close() // leaves the group
		defer r.revokeAll()
		return r.poll(ctx)
	})
}

type place struct {
	topic     string
	partition int32
}

// run is a consumer with its client.
type run struct {
	consumer *consume.Consumer
	client   *kgo.Client
	ready    chan struct{} // closed once client is set

	mu       sync.Mutex
	assigned map[place]*assignment
}

// assignment is a partition and what has been fetched of it.
type assignment struct {
	*consume.Partition
	feed    *consume.Feed
	ended   context.Context
	end     context.CancelFunc
	working sync.WaitGroup
}

// finish is for how long a revoked partition may finish what it has begun. It is
// less than the default rebalance timeout.
const finish = 20 * time.Second

// poll hands over what is fetched.
func (r *run) poll(ctx context.Context) error {
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if fetches.IsClientClosed() {
			return errors.New("the client was closed")
		}
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			r.mu.Lock()
			a := r.assigned[place{f.Topic, f.Partition}]
			r.mu.Unlock()
			if a != nil && len(f.Records) > 0 { // else whoever has it now reads it
				a.High(f.HighWatermark)
				a.feed.Add(records(f.Records)...)
			}
		})
	}
}

func records(fetched []*kgo.Record) []consume.Record {
	all := make([]consume.Record, 0, len(fetched))
	for _, r := range fetched {
		headers := make([]consume.Header, len(r.Headers))
		for n, h := range r.Headers {
			headers[n] = consume.Header{Name: h.Key, Value: h.Value}
		}
		all = append(all, consume.Record{
			Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
			Key: r.Key, Value: r.Value, Headers: headers,
		})
	}
	return all
}

// assign begins with partitions. It is called before they are fetched.
func (r *run) assign(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-r.ready
	for topic, partitions := range offsets {
		for number, committed := range partitions {
			at := place{topic, number}
			p, start, err := r.consumer.Assign(ctx, topic, number, committed.EpochOffset().Offset, func(next int64) { r.commit(at, next) })
			if err != nil {
				return nil, err
			}
			this := map[string][]int32{topic: {number}}
			a := &assignment{Partition: p, feed: p.Feed(
				func() { r.client.PauseFetchPartitions(this) }, func() { r.client.ResumeFetchPartitions(this) },
			)}
			a.ended, a.end = context.WithCancel(context.WithoutCancel(ctx))
			r.mu.Lock()
			r.assigned[at] = a
			r.mu.Unlock()
			a.working.Go(func() { _ = a.feed.Run(a.ended) }) // if the consumer has failed, it says so itself
			partitions[number] = kgo.NewOffset().At(start)
		}
	}
	return offsets, nil
}

// commit commits an offset. That it fails is no harm: the database knows what is
// handled.
func (r *run) commit(at place, next int64) {
	ctx, cancel := context.WithTimeout(context.Background(), finish)
	defer cancel()
	r.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{
		at.topic: {at.partition: {Epoch: -1, Offset: next}},
	}, nil)
}

func (r *run) revoke(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	var closing sync.WaitGroup
	for topic, partitions := range lost {
		for _, number := range partitions {
			closing.Go(func() { r.close(ctx, place{topic, number}, finish) })
		}
	}
	closing.Wait()
}

// lose ends partitions that somebody else may have already.
func (r *run) lose(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	for topic, partitions := range lost {
		for _, number := range partitions {
			r.close(ctx, place{topic, number}, 0)
		}
	}
}

func (r *run) revokeAll() {
	r.mu.Lock()
	all := map[string][]int32{}
	for at := range r.assigned {
		all[at.topic] = append(all[at.topic], at.partition)
	}
	r.mu.Unlock()
	r.revoke(context.Background(), nil, all)
}

func (r *run) close(ctx context.Context, at place, within time.Duration) {
	r.mu.Lock()
	a := r.assigned[at]
	delete(r.assigned, at)
	r.mu.Unlock()
	if a == nil {
		return
	}
	a.end()
	a.working.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	_ = a.Close(ctx) // what was not stored comes again, and is known
}
