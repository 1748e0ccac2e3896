package kafka

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// connections are those to a fake, which a test can end.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open = append(c.open, conn)
	}
	return conn, err
}

// end closes all connections, as a broker does with idle ones.
func (c *connections) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

// Brokers close idle connections. Whatever is asked next connects again.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*testing.T, *Owner) error{
		"refresh": func(_ *testing.T, o *Owner) error { return o.Refresh("orders") },
		"describe": func(t *testing.T, o *Owner) error {
			t.Helper()
			_, err := o.LookUp(t.Context(), []string{"orders"})
			return err
		},
		"list": func(_ *testing.T, o *Owner) error { _, err := o.Topics(""); return err },
		"ends": func(t *testing.T, o *Owner) error {
			t.Helper()
			_, err := o.Ends(t.Context(), []string{"orders"})
			return err
		},
		"fence": func(t *testing.T, o *Owner) error {
			t.Helper()
			return o.Fence(t.Context(), partitionsOf("orders", 2))
		},
		"renew": func(_ *testing.T, o *Owner) error {
			o.mu.Lock()
			o.attempted = now().minus(2 * o.interval)
			o.mu.Unlock()
			_, err := o.Renew()
			return err
		},
		"admit": func(_ *testing.T, o *Owner) error { _, err := o.Admit("orders", 2); return err },
		"create": func(_ *testing.T, o *Owner) error {
			_, err := o.CreateTopic("more", TopicConfig{})
			return err
		},
		"producer id": func(t *testing.T, o *Owner) error {
			t.Helper()
			_, err := o.Anonymous(t.Context())
			return err
		},
		"take over": func(t *testing.T, o *Owner) error {
			t.Helper()
			_, err := o.TakeOver(t.Context(), "other")
			return err
		},
		"requests": func(_ *testing.T, o *Owner) error { _, err := o.Lacks(Publishing); return err },
		"a topic":  func(_ *testing.T, o *Owner) error { _, err := o.Describe("orders"); return err },
		"a setting": func(_ *testing.T, o *Owner) error {
			_, err := o.TopicSetting("orders", "cleanup.policy")
			return err
		},
		"checkpoint topic": func(t *testing.T, o *Owner) error {
			t.Helper()
			_, err := NewCompactedTopic(o.Client, "one").Last(t.Context(), nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all connections
			cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"), kfake.SeedTopics(1, "one"),
				kfake.ListenFn(func(network, address string) (_ net.Listener, err error) {
					all.Listener, err = net.Listen(network, address)
					return &all, err
				}))
			owner := takeOver(t, cluster.Brokers(), "slot")
			require.NoError(t, owner.Fence(t.Context(), partitionsOf("orders", 2)))
			for range 2 {
				all.end()
				assert.NoError(t, ask(t, owner))
			}
		})
	}
}
