package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"github.com/IBM/sarama"
)

// TLSConfig names the files of an encrypted connection. They are read again for
// each connection, so that renewed files are used without a restart.
type TLSConfig struct {
	Enabled                   bool
	CAFile, CertFile, KeyFile string
	ServerName                string
	InsecureSkipVerify        bool
}

// apply makes sarama connect through tlsDialer, because sarama's own TLS keeps
// the certificate authorities from the start.
func (t TLSConfig) apply(config *sarama.Config) error {
	if !t.Enabled {
		return nil
	}
	if _, err := t.build(); err != nil {
		return err
	}
	config.Net.Proxy.Enable = true
	config.Net.Proxy.Dialer = tlsDialer{t, net.Dialer{Timeout: config.Net.DialTimeout, KeepAlive: config.Net.KeepAlive}}
	return nil
}

// build reads the files into a tls.Config.
func (t TLSConfig) build() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert_file and key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// tlsDialer connects with the current files.
type tlsDialer struct {
	files  TLSConfig
	dialer net.Dialer
}

// Dial connects to a broker. sarama calls it for each connection.
func (d tlsDialer) Dial(network, address string) (net.Conn, error) {
	config, err := d.files.build()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.dialer.Timeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: &d.dialer, Config: config}).DialContext(ctx, network, address)
}
