package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/proxytest"
)

// nervous makes the streamer notice a silent server soon.
var nervous = map[string]string{"postgres.wal_sender_timeout": "2s", "postgres.connect_timeout": "3s"}

var _ = register(
	fault{
		name: "half open", group: networkGroup, stop: stopped,
		what:     "everything sent between the streamer and PostgreSQL disappears for longer than every timeout",
		settings: nervous, prepare: (*run).behindProxy, times: strikes(2), recover: true,
		strike: func(r *run) { r.proxy.Swallow() },
		hold:   func(r *run) { r.moment(3000, 20_000) },
		heal:   func(r *run) { r.proxy.Clear() },
	},
	fault{
		name: "stalled", group: networkGroup, stop: stopped,
		what:     "nothing moves between the streamer and PostgreSQL for a while, then everything arrives",
		settings: nervous, prepare: (*run).behindProxy, times: strikes(3), recover: true,
		strike: func(r *run) { r.proxy.Stall() },
		hold:   func(r *run) { r.moment(500, 5000) },
		heal:   func(r *run) { r.proxy.Clear() },
	},
	fault{
		name: "byte by byte", group: networkGroup, stop: stopped,
		what:    "the connection to PostgreSQL carries one byte at a time, a few hundred a second",
		prepare: (*run).behindProxy, times: strikes(3), recover: true,
		strike: func(r *run) { r.proxy.Drip(2 * time.Millisecond) },
		hold:   func(r *run) { r.moment(2000, 6000) },
		heal:   func(r *run) { r.proxy.Clear() },
	},
	fault{
		name: "reset", group: networkGroup, fast: true, stop: stopped,
		what:    "connections to PostgreSQL are reset after a random number of bytes",
		prepare: (*run).behindProxy, times: strikes(15),
		strike: (*run).resetSomewhere,
		hold:   func(r *run) { r.moment(200, 1500) },
		heal:   func(r *run) { r.proxy.Clear() },
	},
	fault{
		name: "refused", group: networkGroup, stop: stopped,
		what:    "PostgreSQL cannot be reached: connections are reset and new ones refused",
		prepare: (*run).behindProxy, times: strikes(4), recover: true,
		strike: func(r *run) { r.proxy.Refuse() },
		heal:   func(r *run) { r.proxy.Clear() },
	},
	fault{
		name: "TLS cut off", group: networkGroup, stop: stopped,
		what:     "TLS connections to PostgreSQL are reset in the middle of a record",
		postgres: map[string]string{"ssl": "off"}, // turned on by prepare
		prepare: func(r *run) {
			r.turnTLSOn()
			r.behindProxy()
		},
		times:  strikes(15),
		strike: (*run).resetSomewhere,
		hold:   func(r *run) { r.moment(200, 1500) },
		heal:   func(r *run) { r.proxy.Clear() },
	},
)

// behindProxy lets the streamer, but not the writers, reach PostgreSQL through
// a proxy.
func (r *run) behindProxy() {
	r.t.Helper()
	r.proxy = proxytest.New(r.t, serverAddress(r.pg))
	through, err := r.proxy.Through(r.through)
	require.NoError(r.t, err)
	r.connect(through)
}

// resetSomewhere resets the existing connections within their next bytes. It
// also resets later ones, some during the handshake and some in the middle of
// the stream.
func (r *run) resetSomewhere() {
	n := 1 + r.random.Int64N(2000)
	if r.random.IntN(2) == 0 {
		n = 1 + r.random.Int64N(200_000)
	}
	r.proxy.ResetAfter(n)
}

// turnTLSOn gives the server a certificate and makes the streamer require TLS.
func (r *run) turnTLSOn() {
	r.t.Helper()
	certificate, key, err := selfSigned()
	require.NoError(r.t, err)
	require.NoError(r.t, r.pg.WriteData("server.crt", certificate))
	require.NoError(r.t, r.pg.WriteData("server.key", key))
	require.NoError(r.t, r.pg.AlterSystem(r.ctx, "ssl", "on"))
	u, err := url.Parse(r.through)
	require.NoError(r.t, err)
	u.RawQuery = url.Values{"sslmode": {"require"}}.Encode()
	r.connect(u.String())
	r.until("the server speaks TLS", func() bool {
		conn := r.open()
		defer conn.Close(r.ctx)
		var on string
		return conn.QueryRow(r.ctx, "show ssl").Scan(&on) == nil && on == "on"
	})
}

// selfSigned makes a certificate for 127.0.0.1 and its key, both as PEM.
func selfSigned() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}
