package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const canary = "c4n4ry"

func TestSecretRevealsFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "password")
	s := NewSecret(fileReference + name)

	_, err := s.Reveal(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)

	for content, want := range map[string]string{"one\n": "one", "two": "two", "three\n\n": "three\n", "four\r\n": "four", "": ""} {
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		value, err := s.Reveal(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, value, "the file is read again each time")
	}
}

func TestSecretZero(t *testing.T) {
	t.Parallel()
	value, err := Secret{}.Reveal(t.Context())
	require.NoError(t, err)
	assert.Empty(t, value)
	assert.Empty(t, Secret{}.String())
	assert.True(t, NewSecret("").IsZero())
	assert.False(t, NewSecret("x").IsZero())
	assert.True(t, NewDSN("").IsZero())
	assert.Empty(t, DSN{}.String())
}

func TestDSNString(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://db/shop":                             "postgres://db/shop",
		"postgres://u@db:5432/shop?sslmode=require":      "postgres://u@db:5432/shop?sslmode=require",
		"postgresql://u:c4n4ry@a:1,b:2/shop":             "postgresql://u:********@a:1,b:2/shop",
		"postgres://u:c4n4ry@/shop?host=/run/postgresql": "postgres://u:********@/shop?host=/run/postgresql",
		"postgres://db/shop?user=u&password=c4n4ry&sslpassword=c4n4ry&sslmode=off": "postgres://db/shop?user=u&password=********&" +
			"sslpassword=********&sslmode=off",
		"postgres://db/shop?pass%77ord=c4n4ry":                  "postgres://db/shop?pass%77ord=********",
		"postgres://u:c4n4ry@[::1]:5432/shop":                   "postgres://u:********@[::1]:5432/shop",
		"postgres://:c4n4ry@db":                                 "postgres://:********@db",
		"postgres://u:p@c4n4ry@db/shop":                         mask,
		"postgres://u:p/c4n4ry@db/shop":                         mask,
		"postgres://u:p?c4n4ry@db/shop":                         mask,
		"postgres://u:p#c4n4ry@db/shop":                         mask,
		"postgres://u:c4n4ry":                                   mask,
		"postgres://u:c4n4ry/shop":                              mask,
		"postgres://db/shop?password=a&c4n4ry":                  mask,
		"postgres://db/shop?password=a&c4n4ry=b":                mask,
		"postgres://db/shop?password=a?c4n4ry":                  "postgres://db/shop?password=********",
		"host=db password=c4n4ry user=u":                        "host=db password=******** user=u",
		"host=db password = 'a c4n4ry\\' b' sslpassword=c4n4ry": "host=db password=******** sslpassword=********",
		"host=db password=a\\ c4n4ry":                           "host=db password=********",
		"host=db password=a c4n4ry":                             mask,
		"host=db password=a c4n4ry=b":                           mask,
		"host=db password='a'c4n4ry":                            mask,
		"host=db password='c4n4ry":                              mask,
		"host=db PASSWORD=c4n4ry":                               mask,
		"mysql://u:c4n4ry@db/shop":                              mask,
		"c4n4ry":                                                mask,
		"file:host=db":                                          mask,
		"file:/run/secrets/dsn":                                 "file:/run/secrets/dsn",
	} {
		assert.Equal(t, want, NewDSN(text).String(), text)
		value, err := NewDSN(text).Reveal(t.Context())
		if !strings.HasPrefix(text, fileReference) {
			require.NoError(t, err)
			assert.Equal(t, text, value)
		}
	}
}

// holder keeps secrets where fmt cannot call their methods.
type holder struct {
	secret Secret
	dsn    DSN
	config Config
}

func secretive() Config {
	c := Default()
	c.Postgres.DSN = NewDSN("postgres://u:" + canary + "@db/shop?sslpassword=" + canary)
	c.Checkpoint.Postgres.DSN = NewDSN("host=db password='" + canary + "'")
	c.Kafka.SASL.Password = NewSecret(canary)
	c.Kafka.SASL.ClientSecret = NewSecret(canary)
	c.Kafka.SASL.Token = NewSecret(canary)
	return c
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c := secretive()
	h := holder{secret: c.Kafka.SASL.Password, dsn: c.Postgres.DSN, config: c}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		for _, value := range []any{c, &c, h, &h, h.secret, &h.secret, h.dsn, &h.dsn, []any{h.secret, h.dsn}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("configuration", "config", c, "secret", h.secret, "dsn", h.dsn, "section", c.Kafka.SASL, "holder", h)
	}
	asJSON, err := json.Marshal(map[string]any{"config": c, "secret": h.secret, "holder": h})
	require.NoError(t, err)
	out.Write(asJSON)
	asYAML, err := yaml.Marshal(c)
	require.NoError(t, err)
	out.Write(asYAML)

	assert.NotContains(t, out.String(), canary)
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
	assert.Contains(t, out.String(), mask)
}

func TestSecretsAreNeverInEffective(t *testing.T) {
	t.Parallel()
	o := write(t, "postgres: {dsn: 'postgres://u:"+canary+"@db/shop'}\nkafka: {tls: {enabled: true}, sasl: {mechanism: PLAIN, username: u}}\n")
	o.Environ = []string{"STREAMER_KAFKA_SASL_PASSWORD=" + canary}
	loaded := load(t, o)
	for _, format := range []string{FormatYAML, FormatJSON} {
		var out bytes.Buffer
		require.NoError(t, WriteEffective(&out, loaded, format))
		assert.NotContains(t, out.String(), canary)
		assert.Contains(t, out.String(), "postgres://u:********@db/shop")

		masked := write(t, out.String())
		if format == FormatYAML {
			_, err := Load(masked)
			require.ErrorContains(t, err, "postgres.dsn")
			assert.ErrorContains(t, err, "kafka.sasl.password")
		}
	}
}

func TestSecretsAreNeverInErrors(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"other mistakes":  "postgres: {dsn: 'postgres://u:c4n4ry@db/shop', slot: A}\nkafka: {sasl: {username: u, password: c4n4ry}}\n",
		"no DSN":          "postgres: {dsn: c4n4ry}\n",
		"file: and a URL": "postgres: {dsn: 'file:postgres://u:c4n4ry@db/shop'}\n",
		"other database":  "postgres: {dsn: 'mysql://u:c4n4ry@db/shop'}\n",
		"alias":           "kafka: {sasl: {password: *c4n4ry}}\n",
		"anchor":          "kafka:\n  sasl:\n    password: &c4n4ry\n",
		"tag":             "kafka:\n  sasl:\n    password: !c4n4ry\n",
		"tag with handle": "kafka:\n  sasl:\n    password: !c4n4ry!x\n",
		"percent":         "kafka:\n  sasl:\n    password: %c4n4ry\n",
		"backquote":       "kafka:\n  sasl:\n    password: `c4n4ry\n",
		"open quote":      "kafka:\n  sasl:\n    password: \"c4n4ry\n",
		"escape":          "kafka:\n  sasl:\n    password: \"\\c4n4ry\"\n",
		"colon":           "kafka:\n  sasl:\n    password: a: c4n4ry\n",
		"list":            "kafka: {sasl: {password: [c4n4ry]}}\n",
		"mapping":         "kafka: {sasl: {password: {c4n4ry: c4n4ry}}}\n",
		"scalar section":  "kafka: {sasl: c4n4ry}\n",
		"whole file":      "c4n4ry\n",
		"extension":       "kafka: {sasl: {mechanism: OAUTHBEARER, extensions: {auth: 'c4n4ry\u0001'}}}\n",
		"token URL":       "kafka: {sasl: {mechanism: OAUTHBEARER, client_id: a, client_secret: b, token_url: 'https://u:c4n4ry@idp/token'}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(write(t, content))
			require.Error(t, err)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), canary)
		})
	}
	t.Run("variable with the wrong name", func(t *testing.T) {
		t.Parallel()
		o := missing(t)
		o.Environ = []string{"STREAMER_KAFKA_PASSWORD=c4n4ry", "STREAMER_ROUTES=*c4n4ry"}
		o.Flags = map[string]string{"kafka.password": canary}
		_, err := Load(o)
		require.ErrorContains(t, err, "did you mean STREAMER_KAFKA_SASL_PASSWORD?")
		assert.NotContains(t, err.Error(), canary)
	})
}
