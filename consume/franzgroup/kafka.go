package franzgroup

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/consume"
)

// kafka answers what a consumer asks about partitions.
type kafka struct {
	client  *kgo.Client
	options []kgo.Opt
}

var _ consume.Client = (*kafka)(nil)

func (k *kafka) Partitions(ctx context.Context, topic string) (int32, error) {
	request := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	request.Topics = append(request.Topics, asked)
	response, err := request.RequestWith(ctx, k.client)
	if err == nil && len(response.Topics) == 1 {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	return int32(len(response.Topics[0].Partitions)), nil
}

const (
	latest   = -1
	earliest = -2
)

func (k *kafka) Oldest(ctx context.Context, topic string, partition int32) (int64, error) {
	return k.offset(ctx, topic, partition, earliest)
}

func (k *kafka) offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic = topic
	one := kmsg.NewListOffsetsRequestTopicPartition()
	one.Partition, one.Timestamp = partition, at
	of.Partitions = append(of.Partitions, one)
	request.Topics = append(request.Topics, of)
	for _, shard := range k.client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			return 0, fmt.Errorf("offset of %s-%d: %w", topic, partition, shard.Err)
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return 0, fmt.Errorf("offset of %s-%d: %w", topic, partition, err)
				}
				return p.Offset, nil
			}
		}
	}
	return 0, fmt.Errorf("offset of %s-%d: no answer", topic, partition)
}

func (k *kafka) End(ctx context.Context, topic string, partition int32) (int64, error) {
	return k.offset(ctx, topic, partition, latest)
}

// Holds reads, because only that tells records from the markers that take an
// offset as well.
func (k *kafka) Holds(ctx context.Context, topic string, partition int32, from, until int64) (bool, error) {
	if from >= until {
		return false, nil
	}
	reader, err := kgo.NewClient(append(append([]kgo.Opt{}, k.options...), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}))...)
	if err != nil {
		return false, fmt.Errorf("read %s-%d: %w", topic, partition, err)
	}
	defer reader.Close()
	for from < until {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return false, fmt.Errorf("read %s-%d: %w", topic, partition, err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			if r.Offset < until && !r.Attrs.IsControl() {
				return true, nil
			}
			from = r.Offset + 1
		}
	}
	return false, nil
}
