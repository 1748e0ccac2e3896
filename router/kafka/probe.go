package kafka

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// probePatience bounds the question what a listener expects. It is asked only
// after a connection has failed.
const probePatience = 3 * time.Second

// diagnose asks the brokers directly why a client cannot be set up, because
// sarama keeps only the errors of connections. It returns nil where nothing
// explains the failure.
func diagnose(c ClientConfig, config *sarama.Config) error {
	deadline := time.Now().Add(probePatience)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	causes := make([]error, len(c.Brokers))
	var asked sync.WaitGroup
	for i, address := range c.Brokers {
		asked.Go(func() {
			causes[i] = failure.Misconfigure(mismatch(ctx, c, address))
			if causes[i] == nil && time.Now().Before(deadline) { // it does not keep silent
				causes[i] = refusal(address, config)
			}
		})
	}
	asked.Wait()
	for _, cause := range causes {
		if cause != nil {
			return cause
		}
	}
	return nil
}

// mismatch compares what a listener expects with the configuration. It returns
// nil if they agree, or if the listener does not say.
func mismatch(ctx context.Context, c ClientConfig, address string) error {
	l, err := ask(ctx, c, c.TLS.Enabled, address)
	if err != nil {
		return otherwise(ctx, c, address)
	}
	return l.compare(c.SASL.Mechanism, address)
}

// otherwise tries with TLS if it is off, and the other way round.
func otherwise(ctx context.Context, c ClientConfig, address string) error {
	if _, err := ask(ctx, c, !c.TLS.Enabled, address); err != nil {
		return nil //nolint:nilerr // that is not the reason
	}
	if c.TLS.Enabled {
		return failure.Advise(
			fmt.Errorf("listener %s does not use TLS", address),
			"name the port of a TLS listener in kafka.brokers, or set kafka.tls.enabled to false",
		)
	}
	return failure.Advise(
		fmt.Errorf("listener %s expects TLS", address),
		"set kafka.tls.enabled to true, or name the port of a plaintext listener in kafka.brokers",
	)
}

// listener is what a broker expects of connections to one of its ports.
type listener struct {
	sasl       bool
	mechanisms []string // that it offers
}

func (l listener) compare(mechanism, address string) error {
	offers := strings.Join(l.mechanisms, ", ")
	switch {
	case !l.sasl && mechanism != "":
		return failure.Advise(
			fmt.Errorf("listener %s does not use SASL", address),
			"name the port of a SASL listener in kafka.brokers, or leave kafka.sasl.mechanism empty",
		)
	case l.sasl && mechanism == "":
		return failure.Advise(
			fmt.Errorf("listener %s expects SASL: it offers %s", address, offers),
			"set kafka.sasl.mechanism and its credentials, or name the port of a listener without SASL in kafka.brokers",
		)
	case l.sasl && !slices.Contains(l.mechanisms, mechanism):
		return failure.Advise(
			fmt.Errorf("listener %s does not offer SASL mechanism %s: it offers %s", address, mechanism, offers),
			"set kafka.sasl.mechanism to one that is offered",
		)
	}
	return nil
}

// ask begins a SASL handshake to learn what a listener expects. It sends no
// credentials. An error means that the listener does not understand, as without
// TLS where it expects TLS.
func ask(ctx context.Context, c ClientConfig, encrypted bool, address string) (listener, error) {
	conn, err := dialAs(ctx, c, encrypted, address)
	if err != nil {
		if alerted(err) && !c.TLS.Enabled {
			return listener{}, nil // it wants a certificate, so it speaks TLS
		}
		return listener{}, err
	}
	defer conn.Close()
	if encrypted && !c.TLS.Enabled {
		return listener{}, nil
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return listener{}, err
	}
	return shakeHands(conn, c.ClientID)
}

// alerted reports whether the other side has ended a TLS handshake with an
// alert. Go does not export the type of alerts.
func alerted(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// dialAs connects with or without TLS, whatever is configured. Where TLS is not
// configured there is nothing to verify a certificate with, and nothing is sent
// on such a connection.
func dialAs(ctx context.Context, c ClientConfig, encrypted bool, address string) (net.Conn, error) {
	if !encrypted {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	files := c.TLS
	if !files.Enabled {
		files = TLSConfig{InsecureSkipVerify: true}
	}
	config, err := files.build()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}

// shakeHands sends a SaslHandshake request, version 1, for a mechanism that no
// broker has. The answer lists the mechanisms of the listener, or says that it
// does not use SASL.
func shakeHands(conn io.ReadWriter, clientID string) (listener, error) {
	const key, version, correlation = 17, 1, 1
	request := binary.BigEndian.AppendUint16(nil, key)
	request = binary.BigEndian.AppendUint16(request, version)
	request = binary.BigEndian.AppendUint32(request, correlation)
	for _, text := range []string{clientID, "NONE"} {
		request = binary.BigEndian.AppendUint16(request, uint16(len(text)))
		request = append(request, text...)
	}
	framed := binary.BigEndian.AppendUint32(nil, uint32(len(request)))
	if _, err := conn.Write(append(framed, request...)); err != nil {
		return listener{}, err
	}
	return readHandshake(conn, correlation)
}

// readHandshake reads the answer to a SaslHandshake request.
func readHandshake(from io.Reader, correlation uint32) (listener, error) {
	var head struct {
		Size, Correlation uint32
		Code              sarama.KError
		Count             int32
	}
	if err := binary.Read(from, binary.BigEndian, &head); err != nil {
		return listener{}, err
	}
	const most = 100 // mechanisms; another protocol's answer may look like more
	if head.Correlation != correlation || head.Count < 0 || head.Count > most {
		return listener{}, errNotKafka
	}
	l := listener{sasl: head.Code == sarama.ErrUnsupportedSASLMechanism}
	if !l.sasl && head.Code != sarama.ErrIllegalSASLState {
		return listener{}, errNotKafka
	}
	for range head.Count {
		var size uint16
		if err := binary.Read(from, binary.BigEndian, &size); err != nil {
			return listener{}, err
		}
		name := make([]byte, size)
		if _, err := io.ReadFull(from, name); err != nil {
			return listener{}, err
		}
		l.mechanisms = append(l.mechanisms, string(name))
	}
	return l, nil
}

// errNotKafka means that what answered does not speak Kafka's protocol, or
// speaks a dialect that says nothing.
var errNotKafka = errors.New("answer is not Kafka's")

// refusal returns the error code with which a broker answers, or nil.
func refusal(address string, config *sarama.Config) error {
	short := *config
	short.Net.DialTimeout, short.Net.ReadTimeout = probePatience, probePatience
	broker := sarama.NewBroker(address)
	if err := broker.Open(&short); err != nil {
		return nil // the configuration was reported before
	}
	defer broker.Close()
	_, err := broker.GetMetadata(sarama.NewMetadataRequest(config.Version, nil))
	if _, answered := errors.AsType[sarama.KError](err); answered {
		return err
	}
	return nil
}
