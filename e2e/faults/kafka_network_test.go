package faults

import (
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/proxytest"
)

// proxies are those between streamers and brokers, by their addresses.
var proxies sync.Map

// behindProxies is a cluster whose brokers can be reached through proxies. The
// run itself bypasses them.
func behindProxies(brokers int) *kafkatest.Options {
	return &kafkatest.Options{Brokers: brokers, Proxied: func(_ int, listener string) (string, error) {
		p, err := proxytest.Listen("127.0.0.1:0", listener)
		if err != nil {
			return "", err
		}
		proxies.Store(p.Address(), p)
		return p.Address(), nil
	}}
}

// throughProxies makes the streamer connect only to the proxies.
func (r *run) throughProxies() {
	r.t.Helper()
	addresses := r.kafka.ProxiedBrokers()
	r.settings["kafka.brokers"] = strings.Join(addresses, ",")
	r.t.Cleanup(func() {
		for _, address := range addresses {
			p, _ := proxies.LoadAndDelete(address)
			p.(*proxytest.Proxy).Close() //nolint:forcetypeassert // the map holds nothing else
		}
	})
}

// proxied calls do for the proxies of all brokers.
func (r *run) proxied(do func(*proxytest.Proxy)) {
	r.t.Helper()
	for _, address := range r.kafka.ProxiedBrokers() {
		p, ok := proxies.Load(address)
		require.True(r.t, ok, "no proxy at %s", address)
		do(p.(*proxytest.Proxy)) //nolint:forcetypeassert // the map holds nothing else
	}
}

// oneProxied calls do for the proxy of a random broker.
func (r *run) oneProxied(do func(*proxytest.Proxy)) {
	r.t.Helper()
	all := r.kafka.ProxiedBrokers()
	chosen := all[r.random.IntN(len(all))]
	p, ok := proxies.Load(chosen)
	require.True(r.t, ok, "no proxy at %s", chosen)
	do(p.(*proxytest.Proxy)) //nolint:forcetypeassert // the map holds nothing else
}

// clear ends all disturbances of the network.
func (r *run) clear() { r.proxied((*proxytest.Proxy).Clear) }

var _ = register(
	broken("connection to brokers byte by byte", "everything sent between the streamer and the brokers arrives byte by byte", 4, func(r *run) {
		r.proxied(func(p *proxytest.Proxy) { p.Drip(20 * time.Microsecond) })
	}, 2000, 5000),
	broken("connection to brokers stalled",
		"nothing moves between the streamer and the brokers for longer than every timeout; "+
			"nothing is lost and no connection ends", 3, func(r *run) {
			r.moment(0, 500)
			r.proxied((*proxytest.Proxy).Stall)
		}, 15_000, 20_000),
	broken("connection to brokers half open",
		"everything sent between the streamer and the brokers disappears for longer than every timeout", 3, func(r *run) {
			r.moment(0, 500)
			r.proxied((*proxytest.Proxy).Swallow)
		}, 6000, 16_000),
	broken("connection to brokers reset", "every connection is reset after a random number of bytes, again and again", 12, func(r *run) {
		r.proxied(func(p *proxytest.Proxy) { p.ResetAfter(1 + r.random.Int64N(30_000)) })
	}, 300, 2000),
	broken("connection to brokers refused", "every connection is reset and new ones are refused", 5, func(r *run) {
		r.moment(0, 500)
		r.proxied((*proxytest.Proxy).Refuse)
	}, 500, 4000),
	fault{
		name: "one of three brokers unreachable", group: kafkaGroup, kafka: behindProxies(3),
		what:     "one of three brokers, which are fine among themselves, cannot be reached by the streamer",
		settings: map[string]string{"kafka.request_timeout": requestTimeout},
		prepare:  (*run).throughProxies, times: strikes(4), recover: true,
		strike: func(r *run) { r.oneProxied((*proxytest.Proxy).Swallow) },
		hold:   func(r *run) { r.moment(6000, 16_000) },
		heal:   (*run).clear, stop: stopped,
	},
	fault{
		name: "answers of brokers lost", group: kafkaGroup, kafka: behindProxies(1),
		what:     "the streamer is killed while its connection to the broker resets, so that it does not know what has been written",
		settings: map[string]string{"kafka.request_timeout": requestTimeout},
		prepare:  (*run).throughProxies, times: strikes(15), recover: true,
		strike: func(r *run) {
			r.proxied(func(p *proxytest.Proxy) { p.ResetAfter(1 + r.random.Int64N(30_000)) })
			r.killStreamer()
		},
		heal: (*run).clear,
	},
)

// broken is a network between the streamer and a broker that fails as strike
// says, for a duration between two numbers of milliseconds.
func broken(name, what string, times int, strike func(*run), from, to int) fault {
	return fault{
		name: name, what: what, group: kafkaGroup, kafka: behindProxies(1),
		settings: map[string]string{"kafka.request_timeout": requestTimeout},
		prepare:  (*run).throughProxies, times: strikes(times), recover: true,
		strike: strike, hold: func(r *run) { r.moment(from, to) }, heal: (*run).clear,
		stop: stopped,
	}
}
