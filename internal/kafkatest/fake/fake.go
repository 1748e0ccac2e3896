// Package fake runs a Kafka broker in this process, for tests that script the
// broker's answers and for a demo without Java. It is not Kafka: unscripted
// behaviour may differ. It is a separate package so that users of kafkatest do
// not link it.
package fake

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Cluster is a running fake. The embedded cluster's Control functions and
// faults script its answers.
type Cluster struct {
	*kfake.Cluster
}

// Brokers returns the addresses of the brokers, all on 127.0.0.1.
func (c Cluster) Brokers() []string { return c.ListenAddrs() }

// New starts a fake of three brokers, unless the options say otherwise, on free
// ports of 127.0.0.1. The caller closes it.
func New(options ...kfake.Opt) (Cluster, error) {
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return Cluster{}, fmt.Errorf("start fake Kafka: %w", err)
	}
	return Cluster{Cluster: cluster}, nil
}

// Start is [New] for a test: the fake ends with the test.
func Start(t testing.TB, options ...kfake.Opt) Cluster {
	t.Helper()
	cluster, err := New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// Without is an option: the brokers do not know these requests, and close a
// connection on which one arrives, as those of some compatible services do.
func Without(keys ...kmsg.Key) kfake.Opt {
	versions := kversion.Stable()
	for _, key := range keys {
		versions.SetMaxKeyVersion(int16(key), -1)
	}
	return kfake.MaxVersions(versions)
}
