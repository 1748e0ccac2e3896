package awstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// RDS is a gateway to a real PostgreSQL that trusts it. It lets in what RDS lets
// in: connections with TLS, whose password is a token for this address and this
// user.
type RDS struct {
	cloud    *Cloud
	target   string // host:port
	listener net.Listener
	tls      *tls.Config
	ca       string // PEM file
	running  sync.WaitGroup

	mu     sync.Mutex
	logins []Token
	stream int  // logins for replication
	closed bool // to replication
	conns  []net.Conn
}

// RDS starts a gateway to a server ("host:port") that ends with the test.
func (c *Cloud) RDS(t testing.TB, target string) *RDS {
	t.Helper()
	r := &RDS{cloud: c, target: target}
	if err := r.start(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

func (r *RDS) start(folder string) (err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rds"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	r.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	r.ca = filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(r.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	if r.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	r.running.Go(r.accept)
	return nil
}

func (r *RDS) stop() {
	r.listener.Close()
	r.mu.Lock()
	for _, conn := range r.conns {
		conn.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

// DSN is the URL of a database through the gateway.
func (r *RDS) DSN(user, database, mode string) string {
	query := url.Values{"sslmode": {mode}, "sslrootcert": {r.ca}}
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: r.Address(), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// Address is "host:port".
func (r *RDS) Address() string { return r.listener.Addr().String() }

// Logins are the tokens that were accepted, and how many of them for
// replication.
func (r *RDS) Logins() (all []Token, replication int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Token{}, r.logins...), r.stream
}

// CloseReplication refuses tokens for replication, as RDS does without
// rds.iam_auth_for_replication.
func (r *RDS) CloseReplication(closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = closed
}

// Cut ends all connections.
func (r *RDS) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.conns {
		conn.Close()
	}
	r.conns = nil
}

func (r *RDS) keep(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, conn)
}

func (r *RDS) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.keep(conn)
		r.running.Go(func() {
			defer conn.Close()
			_ = r.serve(conn) // the client notices
		})
	}
}

// serve encrypts, checks the token, and forwards the rest.
func (r *RDS) serve(plain net.Conn) error {
	client := pgproto3.NewBackend(plain, plain)
	first, err := client.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if _, ok := first.(*pgproto3.SSLRequest); !ok {
		return r.refuse(client, "28000", "no pg_hba.conf entry for host, no encryption")
	}
	if _, err := plain.Write([]byte("S")); err != nil {
		return err
	}
	conn := tls.Server(plain, r.tls)
	client = pgproto3.NewBackend(conn, conn)
	second, err := client.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	start, ok := second.(*pgproto3.StartupMessage)
	if !ok {
		return errors.New("no start-up message")
	}
	if err := r.authenticate(client, start); err != nil {
		return r.refuse(client, "28000", fmt.Sprintf("PAM authentication failed for user %q", start.Parameters["user"]))
	}
	return r.forward(conn, start)
}

func (r *RDS) refuse(client *pgproto3.Backend, code, message string) error {
	client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
	return client.Flush()
}

func (r *RDS) authenticate(client *pgproto3.Backend, start *pgproto3.StartupMessage) error {
	client.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := client.Flush(); err != nil {
		return err
	}
	if err := client.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return err
	}
	message, err := client.Receive()
	if err != nil {
		return err
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return errors.New("no password")
	}
	login, err := r.cloud.CheckPostgres(password.Password)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, replication := start.Parameters["replication"]
	if login.Host != r.Address() || login.User != start.Parameters["user"] || login.Action != "connect" || replication && r.closed {
		return errors.New("not for this connection")
	}
	r.logins = append(r.logins, login)
	if replication {
		r.stream++
	}
	return nil
}

// forward connects to the server in the client's place.
func (r *RDS) forward(client net.Conn, start *pgproto3.StartupMessage) error {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", r.target)
	if err != nil {
		return err
	}
	defer server.Close()
	r.keep(server)
	message, err := start.Encode(nil)
	if err != nil {
		return err
	}
	if _, err := server.Write(message); err != nil {
		return err
	}
	r.running.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	_, err = io.Copy(client, server)
	return err
}
