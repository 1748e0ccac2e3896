package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, Default().Validate())
}

func TestBoundsOfTags(t *testing.T) {
	t.Parallel()
	for _, k := range root.settings() {
		for _, tag := range []string{k.min, k.max} {
			if tag != "" {
				assert.NotPanics(t, func() { bound(k, tag) }, k.path)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string // how the only problem begins and what it contains; none if valid
	}{
		"duration below minimum": {
			func(c *Config) { c.Postgres.ConnectTimeout = 0 }, []string{"postgres.connect_timeout", `"0s"`, "at least 1ms"},
		},
		"negative duration": {
			func(c *Config) { c.Shutdown.DrainTimeout = -time.Second }, []string{"shutdown.drain_timeout", `"-1s"`, "at least 0s"},
		},
		"duration above maximum": {func(c *Config) { c.Kafka.Linger = time.Hour }, []string{"kafka.linger", `"1h0m0s"`, "at most 1m"}},
		"slow status updates": {
			func(c *Config) { c.Postgres.StatusInterval = 20 * time.Second },
			[]string{"postgres.status_interval", `"20s"`, "half of postgres.wal_sender_timeout"},
		},
		"slot in upper case": {func(c *Config) { c.Postgres.Slot = "Streamer" }, []string{"postgres.slot", `"Streamer"`, "lower-case"}},
		"long slot":          {func(c *Config) { c.Postgres.Slot = long }, []string{"postgres.slot", "63"}},
		"no publication":     {func(c *Config) { c.Postgres.Publication = "" }, []string{"postgres.publication", "1 to 63 bytes"}},
		"other database":     {func(c *Config) { c.Postgres.DSN = NewDSN("mysql://db?a=b") }, []string{"postgres.dsn", "postgres://"}},
		"DSN in a file":      {func(c *Config) { c.Postgres.DSN = NewDSN("file:/dsn") }, nil},

		"no table":             {func(c *Config) { c.Outbox.Table = "" }, []string{"outbox.table", `""`, "schema.table"}},
		"bare table":           {func(c *Config) { c.Outbox.Table = "outbox" }, []string{"outbox.table", `"outbox"`, "schema.table"}},
		"quoted table":         {func(c *Config) { c.Outbox.Table = `"my.schema"."say ""hi"""` }, nil},
		"half a quoted table":  {func(c *Config) { c.Outbox.Table = `public."Outbox` }, []string{"outbox.table", "in double quotes"}},
		"table with database":  {func(c *Config) { c.Outbox.Table = "a.b.c" }, []string{"outbox.table", "schema.table"}},
		"upper-case table":     {func(c *Config) { c.Outbox.Table = "public.OutboxMessages" }, nil},
		"no column":            {func(c *Config) { c.Outbox.Columns.ID = "" }, []string{"outbox.columns.id", "name its column"}},
		"long optional column": {func(c *Config) { c.Outbox.Columns.Time = long }, []string{"outbox.columns.time", "1 to 63 bytes"}},
		"null payload": {
			func(c *Config) { c.Outbox.NullPayload = "skip" },
			[]string{"outbox.null_payload", `"skip"`, "reject, json_null, empty_object, tombstone or tombstone_if_blank"},
		},
		"small rows": {func(c *Config) { c.Outbox.MaxRowBytes = 0 }, []string{"outbox.max_row_bytes", `"0"`, "at least 1KiB"}},

		"extension": {func(c *Config) { c.Outbox.Extensions = map[string]string{"tenantid": "tenant_id"} }, nil},
		"extension with underscore": {
			func(c *Config) { c.Outbox.Extensions = map[string]string{"tenant_id": "x"} },
			[]string{"outbox.extensions.tenant_id", "lower-case letters and digits"},
		},
		"long extension": {
			func(c *Config) { c.Outbox.Extensions = map[string]string{long: "x"} }, []string{"outbox.extensions." + long, "1 to 20"},
		},
		"extension data": {
			func(c *Config) { c.Outbox.Extensions = map[string]string{"data": "x"} },
			[]string{"outbox.extensions.data", "attribute of CloudEvents"},
		},
		"extension of ours": {
			func(c *Config) { c.Outbox.Extensions = map[string]string{"sequence": "x"} },
			[]string{"outbox.extensions.sequence", "set by the streamer"},
		},
		"extension without a column": {
			func(c *Config) { c.Outbox.Extensions = map[string]string{"tenantid": ""} },
			[]string{"outbox.extensions.tenantid", "1 to 63 bytes"},
		},
		"empty source": {func(c *Config) { c.CloudEvents.Source = "" }, []string{"cloudevents.source", "must not be empty"}},
		"source with a space": {
			func(c *Config) { c.CloudEvents.Source = "/my outbox" }, []string{"cloudevents.source", `"/my outbox"`, "RFC 3986"},
		},
		"source with a broken escape": {func(c *Config) { c.CloudEvents.Source = "urn:x:%zz" }, []string{"cloudevents.source", "RFC 3986"}},
		"unknown placeholder": {
			func(c *Config) { c.CloudEvents.Source = "/{aggregatetype}" }, []string{"cloudevents.source", "did you mean {aggregate_type}?"},
		},
		"far placeholder": {
			func(c *Config) { c.CloudEvents.Type = "{zzzzzzzzz}" }, []string{"cloudevents.type", "use {aggregate_id}, "},
		},
		"placeholder not configured": {
			func(c *Config) { c.CloudEvents.Type = "{correlationid}" }, []string{"cloudevents.type", "{correlationid}"},
		},
		"placeholder of a column": {func(c *Config) { c.Outbox.Columns.Topic, c.Kafka.Topic = "topic", "{topic}" }, nil},
		"placeholder of an extension": {func(c *Config) {
			c.Outbox.Extensions = map[string]string{"tenantid": "t"}
			c.Kafka.Topic = "x.{tenantid}"
		}, nil},
		"open brace":    {func(c *Config) { c.CloudEvents.Type = "{type" }, []string{"cloudevents.type", "does not begin a placeholder"}},
		"closing brace": {func(c *Config) { c.CloudEvents.Type = "type}" }, []string{"cloudevents.type", "without {"}},
		"empty braces":  {func(c *Config) { c.CloudEvents.Type = "{}" }, []string{"cloudevents.type", "does not begin a placeholder"}},
		"mode":          {func(c *Config) { c.CloudEvents.Mode = "avro" }, []string{"cloudevents.mode", "binary or structured"}},
		"content type": {
			func(c *Config) { c.CloudEvents.DataContentType = "json" }, []string{"cloudevents.datacontenttype", "media type"},
		},
		"schema":          {func(c *Config) { c.CloudEvents.DataSchema = "https://example.com/{type}" }, nil},
		"relative schema": {func(c *Config) { c.CloudEvents.DataSchema = "/{type}" }, []string{"cloudevents.dataschema", "absolute URI"}},
		"structured tombstones": {
			func(c *Config) { c.CloudEvents.Mode, c.Outbox.NullPayload = ModeStructured, NullPayloadTombstone },
			[]string{"outbox.null_payload", "structured mode"},
		},

		"route without pattern": {
			func(c *Config) { c.Routes = []Route{{Topic: "a"}} }, []string{"routes[0].aggregate_type", "needs a pattern"},
		},
		"route with a broken pattern": {
			func(c *Config) { c.Routes = []Route{{AggregateType: "a"}, {AggregateType: "[a"}} },
			[]string{"routes[1].aggregate_type", `"[a"`},
		},
		"route with mode": {
			func(c *Config) { c.Routes = []Route{{AggregateType: "a", Mode: "x"}} },
			[]string{"routes[0].mode", `"x"`, "binary, structured or an empty value"},
		},
		"route with topic": {
			func(c *Config) { c.Routes = []Route{{AggregateType: "a", Topic: "a/b"}} },
			[]string{"routes[0].topic", `"a/b"`, "letters, digits"},
		},
		"route with key": {
			func(c *Config) { c.Routes = []Route{{AggregateType: "a", Key: "{idd}"}} }, []string{"routes[0].key", "did you mean {id}?"},
		},
		"route with structured nothing": {func(c *Config) {
			c.Routes = []Route{{AggregateType: "a", Mode: ModeStructured, NullPayload: NullPayloadTombstone}}
		}, []string{"routes[0].null_payload", "structured mode"}},
		"complete route": {func(c *Config) {
			c.Routes = []Route{{AggregateType: "a*", Topic: "a", Key: "{id}", Mode: ModeBinary, NullPayload: NullPayloadTombstone}}
		}, nil},

		"no broker":           {func(c *Config) { c.Kafka.Brokers = nil }, []string{"kafka.brokers", "at least one"}},
		"broker without port": {func(c *Config) { c.Kafka.Brokers = []string{"a:1", "b"} }, []string{"kafka.brokers[1]", `"b"`, "host:port"}},
		"broker with scheme":  {func(c *Config) { c.Kafka.Brokers = []string{"kafka://a:1"} }, []string{"kafka.brokers[0]", "without a scheme"}},
		"broker with port 0":  {func(c *Config) { c.Kafka.Brokers = []string{"a:0"} }, []string{"kafka.brokers[0]", "host:port"}},
		"broker by IPv6":      {func(c *Config) { c.Kafka.Brokers = []string{"[::1]:9092"} }, nil},
		"no topic":            {func(c *Config) { c.Kafka.Topic = "" }, []string{"kafka.topic", "must not be empty"}},
		"topic with slash":    {func(c *Config) { c.Kafka.Topic = "a/{type}" }, []string{"kafka.topic", "letters, digits"}},
		"topic of dots":       {func(c *Config) { c.Kafka.Topic = ".." }, []string{"kafka.topic", "letters, digits"}},
		"long topic":          {func(c *Config) { c.Kafka.Topic = strings.Repeat(long, 4) }, []string{"kafka.topic", "249"}},
		"no key":              {func(c *Config) { c.Kafka.Key = "" }, []string{"kafka.key", "must not be empty"}},
		"client ID":           {func(c *Config) { c.Kafka.ClientID = "a b" }, []string{"kafka.client_id", `"a b"`}},
		"version":             {func(c *Config) { c.Kafka.Version = "3.6" }, []string{"kafka.version", `"3.6"`, "3.6.0"}},
		"compression":         {func(c *Config) { c.Kafka.Compression = "lzo" }, []string{"kafka.compression", `"lzo"`, "lz4"}},
		"level without use": {
			func(c *Config) { c.Kafka.CompressionLevel = 3 }, []string{"kafka.compression_level", `"3"`, "only gzip and zstd"},
		},
		"level of gzip": {
			func(c *Config) { c.Kafka.Compression, c.Kafka.CompressionLevel = "gzip", 10 },
			[]string{"kafka.compression_level", `"10"`, "1 to 9"},
		},
		"level of zstd":    {func(c *Config) { c.Kafka.Compression, c.Kafka.CompressionLevel = "zstd", 10 }, nil},
		"partitioner":      {func(c *Config) { c.Kafka.Partitioner = "random" }, []string{"kafka.partitioner", "murmur2"}},
		"small batches":    {func(c *Config) { c.Kafka.MaxBatchBytes = 1 }, []string{"kafka.max_batch_bytes", "at least 1KiB"}},
		"little in flight": {func(c *Config) { c.Kafka.MaxInFlightBytes = 1 << 10 }, []string{"kafka.max_in_flight_bytes", "900KiB"}},
		"on partition change": {
			func(c *Config) { c.Kafka.OnPartitionChange = "drop" }, []string{"kafka.on_partition_change", "continue or stop"},
		},
		"partitions": {func(c *Config) { c.Kafka.Topics.Partitions = -1 }, []string{"kafka.topics.partitions", `"-1"`, "at least 0"}},
		"certificate alone": {
			func(c *Config) { c.Kafka.TLS = TLS{Enabled: true, CertFile: "c"} }, []string{"kafka.tls.cert_file", "kafka.tls.key_file"},
		},
		"key alone": {
			func(c *Config) { c.Kafka.TLS = TLS{Enabled: true, KeyFile: "k"} }, []string{"kafka.tls.key_file", "kafka.tls.cert_file"},
		},
		"TLS keys without TLS": {func(c *Config) { c.Kafka.TLS.CAFile = "ca" }, []string{"kafka.tls.enabled", "no effect"}},
		"TLS":                  {func(c *Config) { c.Kafka.TLS = TLS{Enabled: true, CAFile: "ca", CertFile: "c", KeyFile: "k"} }, nil},
		"mechanism":            {func(c *Config) { c.Kafka.SASL.Mechanism = "plain" }, []string{"kafka.sasl.mechanism", `"plain"`, "PLAIN"}},
		"no mechanism":         {func(c *Config) { c.Kafka.SASL.Username = "u" }, []string{"kafka.sasl.mechanism", "no mechanism"}},
		"PLAIN without TLS": {
			func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "PLAIN", Username: "u", Password: NewSecret("p")} },
			[]string{"kafka.sasl.mechanism", "allow_plaintext"},
		},
		"PLAIN allowed": {func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "PLAIN", Username: "u", Password: NewSecret("p"), AllowPlaintext: true}
		}, nil},
		"SCRAM without TLS": {func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-256", Username: "u", Password: NewSecret("p")}
		}, nil},
		"SCRAM without a user": {
			func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", Password: NewSecret("p")} },
			[]string{"kafka.sasl.username", "SCRAM-SHA-512"},
		},
		"SCRAM w/o password": {
			func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", Username: "u"} },
			[]string{"kafka.sasl.password", "SCRAM-SHA-512"},
		},
		"masked password": {func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", Username: "u", Password: NewSecret(mask)}
		}, []string{"kafka.sasl.password", "mask"}},
		"OAuth": {func(c *Config) { c.Kafka.SASL = oauth("https://idp/token") }, nil},
		"OAuth with extensions": {func(c *Config) {
			c.Kafka.SASL = oauth("https://idp/token")
			c.Kafka.SASL.Extensions = map[string]string{"logicalCluster": "lkc-1", "identityPoolId": "pool 2"}
		}, nil},
		"extensions without OAuth": {func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-256", Username: "u", Password: NewSecret("p"), Extensions: map[string]string{"a": "b"}}
		}, []string{"kafka.sasl.extensions", "OAUTHBEARER"}},
		"extensions without SASL": {func(c *Config) {
			c.Kafka.SASL.Extensions = map[string]string{"a": "b"}
		}, []string{"kafka.sasl.extensions", "OAUTHBEARER"}},
		"name of an extension": {func(c *Config) {
			c.Kafka.SASL = oauth("https://idp/token")
			c.Kafka.SASL.Extensions = map[string]string{"identity_pool": "x"}
		}, []string{"kafka.sasl.extensions.identity_pool", "letters"}},
		"an extension called auth": {func(c *Config) {
			c.Kafka.SASL = oauth("https://idp/token")
			c.Kafka.SASL.Extensions = map[string]string{"auth": "x"}
		}, []string{"kafka.sasl.extensions.auth", "other than auth"}},
		"value of an extension": {func(c *Config) {
			c.Kafka.SASL = oauth("https://idp/token")
			c.Kafka.SASL.Extensions = map[string]string{"pool": "x\x01y"}
		}, []string{"kafka.sasl.extensions.pool", "printable"}},
		"extension without a value": {func(c *Config) {
			c.Kafka.SASL = oauth("https://idp/token")
			c.Kafka.SASL.Extensions = map[string]string{"pool": ""}
		}, []string{"kafka.sasl.extensions.pool", "at least one"}},
		"OAuth without URL":    {func(c *Config) { c.Kafka.SASL = oauth("") }, []string{"kafka.sasl.token_url", "https"}},
		"OAuth with a bad URL": {func(c *Config) { c.Kafka.SASL = oauth("idp/token") }, []string{"kafka.sasl.token_url", "https"}},
		"OAuth with a user": {
			func(c *Config) { c.Kafka.SASL = oauth("https://u:p@idp/token") }, []string{"kafka.sasl.token_url", "client_id"},
		},
		"OAuth without TLS": {
			func(c *Config) { c.Kafka.SASL = oauth("https://idp"); c.Kafka.SASL.AllowPlaintext = false },
			[]string{"kafka.sasl.mechanism", "the token can be read", "allow_plaintext"},
		},
		"OAuth with nothing": {
			func(c *Config) { c.Kafka.SASL = SASL{Mechanism: MechanismOAuthBearer, AllowPlaintext: true} },
			[]string{"kafka.sasl.token", "needs a token", "token_url"},
		},
		"token from a file":    {func(c *Config) { c.Kafka.SASL = bearer("file:/token") }, nil},
		"token from a command": {func(c *Config) { c.Kafka.SASL = bearer("exec:/bin/token") }, nil},
		"token as it is": {
			func(c *Config) { c.Kafka.SASL = bearer("eyJ") }, []string{"kafka.sasl.token", "expires", "file:"},
		},
		"token and endpoint": {
			func(c *Config) { c.Kafka.SASL = bearer("file:/token"); c.Kafka.SASL.TokenURL = "https://idp" },
			[]string{"kafka.sasl.token", "one of the two"},
		},
		"token without a mechanism": {
			func(c *Config) { c.Kafka.SASL.Token = NewSecret("file:/token") }, []string{"kafka.sasl.mechanism", "no mechanism"},
		},
		"MSK": {func(c *Config) { c.Kafka.SASL.Mechanism, c.Kafka.TLS.Enabled = MechanismAWS, true }, nil},
		"MSK without TLS": {
			func(c *Config) { c.Kafka.SASL.Mechanism = MechanismAWS }, []string{"kafka.sasl.mechanism", "allow_plaintext"},
		},
		"MSK with a password": {func(c *Config) {
			c.Kafka.TLS.Enabled = true
			c.Kafka.SASL = SASL{Mechanism: MechanismAWS, Password: NewSecret("p")}
		}, []string{"kafka.sasl.mechanism", "no other credentials"}},
		"RDS": {func(c *Config) {
			c.Postgres.Auth, c.AWS = AuthAWS, AWS{Region: "us-gov-west-1", Role: "arn:aws-us-gov:iam::123456789012:role/a/b"}
		}, nil},
		"RDS misspelt":       {func(c *Config) { c.Postgres.Auth = "rds" }, []string{"postgres.auth", "aws-rds-iam or an empty value"}},
		"region without AWS": {func(c *Config) { c.AWS.Region = "eu-central-1" }, []string{"aws", "nothing logs in"}},
		"no region":          {func(c *Config) { c.Postgres.Auth, c.AWS.Region = AuthAWS, "Frankfurt" }, []string{"aws.region", "eu-central-1"}},
		"no role":            {func(c *Config) { c.Postgres.Auth, c.AWS.Role = AuthAWS, "streamer" }, []string{"aws.role", "arn:aws:iam"}},
		"checkpoints' auth": {
			func(c *Config) { c.Checkpoint.Postgres.Auth = AuthAWS }, []string{"checkpoint.postgres.auth", "checkpoint.postgres.dsn"},
		},
		"checkpoints in RDS": {func(c *Config) {
			c.Checkpoint.Store = StorePostgres
			c.Checkpoint.Postgres = CheckpointPostgres{DSN: NewDSN("postgres://db"), Auth: AuthAWS, Table: "public.t"}
			c.AWS.Region = "eu-central-1"
		}, nil},
		"OAuth without an ID": {
			func(c *Config) { c.Kafka.SASL = oauth("https://idp"); c.Kafka.SASL.ClientID = "" },
			[]string{"kafka.sasl.client_id", "OAUTHBEARER"},
		},
		"OAuth without secret": {
			func(c *Config) { c.Kafka.SASL = oauth("https://idp"); c.Kafka.SASL.ClientSecret = Secret{} },
			[]string{"kafka.sasl.client_secret", "OAUTHBEARER"},
		},
		"store":               {func(c *Config) { c.Checkpoint.Store = "redis" }, []string{"checkpoint.store", "kafka, postgres or file"}},
		"slow checkpoints":    {func(c *Config) { c.Checkpoint.Interval = 0 }, []string{"checkpoint.interval", "at least 10ms"}},
		"no checkpoint topic": {func(c *Config) { c.Checkpoint.Kafka.Topic = "" }, []string{"checkpoint.kafka.topic", "1 to 249"}},
		"checkpoint topic": {
			func(c *Config) { c.Checkpoint.Kafka.Topic = "outbox.event.checkpoints" },
			[]string{"checkpoint.kafka.topic", `"outbox.event.checkpoints"`, "kafka.topic"},
		},
		"checkpoint by suffix": {func(c *Config) { c.Kafka.Topic = "{type}-checkpoints" }, []string{"checkpoint.kafka.topic", "kafka.topic"}},
		"checkpoint of a route": {
			func(c *Config) { c.Routes = []Route{{AggregateType: "a", Topic: "streamer-checkpoints"}} },
			[]string{"checkpoint.kafka.topic", "routes[0].topic"},
		},
		"same topic unused":     {func(c *Config) { c.Kafka.Topic = "streamer-checkpoints"; c.Checkpoint.Store = StoreFile }, nil},
		"longer constant topic": {func(c *Config) { c.Kafka.Topic = "streamer" }, nil},
		"checkpoint table": {
			func(c *Config) { c.Checkpoint.Store = StorePostgres; c.Checkpoint.Postgres.Table = "x" },
			[]string{"checkpoint.postgres.table", "schema.table"},
		},
		"no checkpoint file": {
			func(c *Config) { c.Checkpoint.Store = StoreFile; c.Checkpoint.File.Path = "" }, []string{"checkpoint.file.path", "must be set"},
		},
		"listen":            {func(c *Config) { c.HTTP.Listen = "9180" }, []string{"http.listen", `"9180"`, "host:port"}},
		"listen by name":    {func(c *Config) { c.HTTP.Listen = ":http" }, []string{"http.listen", "host:port"}},
		"listen everywhere": {func(c *Config) { c.HTTP.Listen = ":0" }, nil},
		"listen nowhere":    {func(c *Config) { c.HTTP.Listen = "" }, nil},
		"log format":        {func(c *Config) { c.Log.Format = "xml" }, []string{"log.format", "auto, text or json"}},
		"retry":             {func(c *Config) { c.Retry.Max = time.Millisecond }, []string{"retry.max", `"1ms"`, "retry.initial"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Default()
			test.change(&c)
			err := c.Validate()
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), test.want[0]+": "), err)
			assert.NotContains(t, err.Error(), "\n", "one mistake, one message")
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func oauth(tokenURL string) SASL {
	return SASL{AllowPlaintext: true, Mechanism: MechanismOAuthBearer, TokenURL: tokenURL, ClientID: "c", ClientSecret: NewSecret("s")}
}

func TestCheckpointDSN(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Postgres.DSN = NewDSN("host=a")
	assert.Equal(t, "host=a", c.CheckpointDSN().String())
	c.Checkpoint.Postgres.DSN = NewDSN("host=b")
	assert.Equal(t, "host=b", c.CheckpointDSN().String())
}

func TestIsURIReference(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"/outbox/shop/public.outbox", "https://example.com/a?b=c#d", "urn:x:y", "a", "a/b:c", "//host/x", "https://[::1]:8080/",
		"mailto:a@b.c", "?q", "#f",
		"https://u:p@example.com", "/%C3%A4", "./a:b", "/a//b",
	} {
		assert.True(t, isURIReference(text), text)
	}
	for _, text := range []string{
		"", "/a b", "urn:x:%zz", "/ä", "/a\"b", "/<a>", "/a\\b", "/a^b", "/a`b", "/{a}", "/a|b", "1a:b", ":a", "a#b#c", "/a[b]",
		"https://a:b:c/", "https://[::1/", "/%", "/a\n", "https://[zz]/",
	} {
		assert.False(t, isURIReference(text), text)
	}
	assert.True(t, isAbsoluteURI("https://example.com"))
	assert.False(t, isAbsoluteURI("/a"))
	assert.False(t, isAbsoluteURI("https:"))
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "512B": 512, "512KiB": 512 << 10, "1 MiB": 1 << 20, "2GiB": 2 << 30, " 7 ": 7, "9223372036854775807": 1<<63 - 1,
	} {
		var size Size
		require.NoError(t, size.UnmarshalText([]byte(text)), text)
		assert.Equal(t, want, size, text)
		again, err := ParseSize(size.String())
		require.NoError(t, err)
		assert.Equal(t, size, again, "the text form reads back")
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1MB", "1k", "1mib", "9223372036854775808", "9007199254740992KiB", "0x10"} {
		var size Size
		require.Error(t, size.UnmarshalText([]byte(text)), text)
	}
	assert.Equal(t, "900KiB", Size(900<<10).String())
	assert.Equal(t, "1023", Size(1023).String())
	assert.Equal(t, "1GiB", Size(1<<30).String())
}

func FuzzParseTemplate(f *testing.F) {
	for _, seed := range []string{"outbox.event.{aggregate_type}", "", "{", "}", "{}", "{a}{b}", "a{b}c{d", "{{a}}", "ä{é}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, template string) {
		parts, err := parseTemplate(template)
		if err != nil {
			assert.True(t, strings.ContainsAny(template, "{}"))
			return
		}
		var b strings.Builder
		for _, p := range parts {
			assert.NotEmpty(t, p.text)
			assert.NotContains(t, p.text, "{")
			assert.NotContains(t, p.text, "}")
			if p.placeholder {
				b.WriteString("{" + p.text + "}")
			} else {
				b.WriteString(p.text)
			}
		}
		assert.Equal(t, template, b.String())
	})
}

func bearer(token string) SASL {
	return SASL{AllowPlaintext: true, Mechanism: MechanismOAuthBearer, Token: NewSecret(token)}
}
