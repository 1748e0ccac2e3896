package kafkatest

import (
	"cmp"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// RaiseFeature finalises a feature, for example transaction.version, at a higher
// level and returns once the broker that is asked shows it.
func (c *Cluster) RaiseFeature(ctx context.Context, name string, level int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...))
	if err != nil {
		return fmt.Errorf("raise feature %s: %w", name, err)
	}
	defer client.Close()
	update := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	update.Feature, update.MaxVersionLevel, update.UpgradeType = name, int16(level), 1
	request := kmsg.NewPtrUpdateFeaturesRequest()
	request.FeatureUpdates = append(request.FeatureUpdates, update)
	answer, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
		for _, result := range answer.Results { // of older brokers
			err = cmp.Or(err, kerr.ErrorForCode(result.ErrorCode))
		}
	}
	if err == nil {
		err = poll(ctx, nil, func() error { return hasFeature(ctx, client, name, level) })
	}
	if err != nil {
		return fmt.Errorf("raise feature %s to %d: %w", name, level, err)
	}
	return nil
}

func hasFeature(ctx context.Context, client *kgo.Client, name string, level int) error {
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, feature := range answer.FinalizedFeatures {
		if feature.Name == name && int(feature.MaxVersionLevel) == level {
			return nil
		}
	}
	return fmt.Errorf("is not finalised at %d yet", level)
}
