package kafkatest

import (
	"fmt"
	"strconv"
)

// proxiedListener is for clients that reach a broker through a proxy.
const proxiedListener = "PROXIED"

// proxy asks [Options].Proxied for the address of a new broker.
func (c *Cluster) proxy(b *broker) (err error) {
	if c.options.Proxied == nil {
		return nil
	}
	if b.proxied, err = c.options.Proxied(b.node-1, "127.0.0.1:"+strconv.Itoa(b.ports.proxied)); err != nil {
		return fmt.Errorf("proxy of broker %d: %w", b.node, err)
	}
	return nil
}

// addProxied adds the listener to the settings of a broker that has a proxy.
// Its clients authenticate like those of the other listeners.
func (b *broker) addProxied(properties map[string]string, sasl bool) {
	if b.proxied == "" {
		return
	}
	protocol := "PLAINTEXT"
	if sasl {
		protocol = "SASL_PLAINTEXT"
		properties["listener.name.proxied.plain.sasl.jaas.config"] = properties["listener.name.client.plain.sasl.jaas.config"]
	}
	properties["listeners"] += fmt.Sprintf(",%s://127.0.0.1:%d", proxiedListener, b.ports.proxied)
	properties["advertised.listeners"] += fmt.Sprintf(",%s://%s", proxiedListener, b.proxied)
	properties["listener.security.protocol.map"] += fmt.Sprintf(",%s:%s", proxiedListener, protocol)
}

// ProxiedBrokers returns the addresses of the proxies of [Options].Proxied, in
// order of node ID. A client that begins there learns no other address.
func (c *Cluster) ProxiedBrokers() []string {
	addresses := make([]string, len(c.brokers))
	for i, b := range c.brokers {
		addresses[i] = b.proxied
	}
	return addresses
}
