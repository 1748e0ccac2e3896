package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (k *checker) brokers() {
	if len(k.Kafka.Brokers) == 0 {
		k.addHidden("kafka.brokers", "at least one broker is needed: write host:port, such as 127.0.0.1:9092")
	}
	for i, broker := range k.Kafka.Brokers {
		host, port, err := net.SplitHostPort(broker)
		if err != nil || host == "" || strings.ContainsAny(host, "/@, \t") || !isPort(port, 1) {
			k.add(fmt.Sprintf("kafka.brokers[%d]", i), broker, "write host:port without a scheme, such as broker-1:9092")
		}
	}
}

// isPort reports whether text is a port number that is not below lowest.
func isPort(text string, lowest uint64) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n >= lowest
}

var (
	clientID     = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	kafkaVersion = regexp.MustCompile(`^\d+\.\d+\.\d+(\.\d+)?$`)
	topicName    = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
)

// longestTopic is the brokers' limit for the length of a topic's name.
const longestTopic = 249

func (k *checker) producer() {
	if t := k.Poison.Topic; t == "" || len(t) > longestTopic || !topicName.MatchString(t) {
		k.add("poison.topic", t, "write the name of one topic: letters, digits, dots, underscores and hyphens")
	}
	c := k.Kafka
	k.topicTemplate("kafka.topic", c.Topic, k.Placeholders())
	k.template("kafka.key", c.Key, k.Placeholders())
	if !clientID.MatchString(c.ClientID) {
		k.add("kafka.client_id", c.ClientID, "use letters, digits, dots, underscores and hyphens")
	}
	if !topicName.MatchString(c.TransactionalID) {
		k.add("kafka.transactional_id_prefix", c.TransactionalID, "use letters, digits, dots, underscores and hyphens")
	}
	if c.Version != "" && !kafkaVersion.MatchString(c.Version) {
		k.add("kafka.version", c.Version, "write a version with three numbers, such as 3.6.0, or leave it empty")
	}
	if highest := map[string]int{"gzip": 9, "zstd": 22}[c.Compression]; c.CompressionLevel > highest {
		remedy := fmt.Sprintf("%s has levels 1 to %d; 0 is its default", c.Compression, highest)
		if highest == 0 {
			remedy = "only gzip and zstd have levels: set 0, or another kafka.compression"
		}
		k.add("kafka.compression_level", strconv.Itoa(c.CompressionLevel), remedy)
	}
	if c.MaxInFlightBytes < c.MaxBatchBytes {
		k.add(
			"kafka.max_in_flight_bytes", c.MaxInFlightBytes.String(),
			"must not be less than kafka.max_batch_bytes, which is "+c.MaxBatchBytes.String(),
		)
	}
}

func (k *checker) topicTemplate(at, template string, known []string) {
	parts, ok := k.template(at, template, known)
	if !ok {
		return
	}
	constant := constants(parts)
	isOnlyDots := len(parts) == 1 && (constant == "." || constant == "..")
	if !topicName.MatchString(constant) || len(constant) > longestTopic || isOnlyDots {
		k.add(at, template, "the name of a topic has at most 249 letters, digits, dots, underscores and hyphens")
	}
	if name := k.Checkpoint.Kafka.Topic; k.Checkpoint.Store == StoreKafka && couldYield(parts, name) {
		k.found = append(k.found, &Problem{
			Key: "checkpoint.kafka.topic", Value: quote(name),
			Remedy: fmt.Sprintf("events could be written to it, because %s is %q: choose a name that does not begin or end like that", at, template),
		})
	}
}

func (k *checker) tls() {
	c := k.Kafka.TLS
	if (c.CertFile == "") != (c.KeyFile == "") {
		at, other := "kafka.tls.cert_file", "kafka.tls.key_file"
		if c.CertFile == "" {
			at, other = other, at
		}
		k.addHidden(at, "a client certificate needs its key and a key its certificate: set "+other+" as well")
	}
	if !c.Enabled && (c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != "" || c.InsecureSkipVerify) {
		k.add("kafka.tls.enabled", "false", "other keys of kafka.tls are set but have no effect: set kafka.tls.enabled to true, or remove them")
	}
}

// inClear is what a mechanism sends as it is.
var inClear = map[string]string{MechanismPlain: "password", MechanismOAuthBearer: "token", MechanismAWS: "token"}

func (k *checker) sasl() {
	c := k.Kafka.SASL
	switch c.Mechanism {
	case "":
		if c.Username != "" || !c.Password.IsZero() || !c.Token.IsZero() || c.TokenURL != "" || c.ClientID != "" || !c.ClientSecret.IsZero() {
			k.addHidden(
				"kafka.sasl.mechanism",
				"credentials are set but no mechanism: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, or remove them",
			)
		}
	case MechanismPlain, MechanismSCRAMSHA256, MechanismSCRAMSHA512:
		k.required("kafka.sasl.username", c.Username == "", c.Mechanism)
		k.required("kafka.sasl.password", c.Password.IsZero(), c.Mechanism)
	case MechanismOAuthBearer:
		k.bearer(c)
	case MechanismAWS:
		if c.Username != "" || !c.Password.IsZero() || !c.Token.IsZero() || c.TokenURL != "" {
			k.add("kafka.sasl.mechanism", c.Mechanism, "it takes the AWS identity, and no other credentials: remove those of kafka.sasl")
		}
	}
	k.saslExtensions()
	if secret := inClear[c.Mechanism]; secret != "" && !k.Kafka.TLS.Enabled && !c.AllowPlaintext {
		k.add(
			"kafka.sasl.mechanism", c.Mechanism,
			"without TLS the "+secret+" can be read in transit: set kafka.tls.enabled to true, use a SCRAM mechanism, "+
				"or set kafka.sasl.allow_plaintext to true",
		)
	}
}

// bearer checks that there is one place where tokens come from.
func (k *checker) bearer(c SASL) {
	switch endpoint := c.TokenURL != "" || c.ClientID != "" || !c.ClientSecret.IsZero(); {
	case c.Token.IsZero() && !endpoint:
		k.addHidden("kafka.sasl.token", "mechanism OAUTHBEARER needs a token: name the file: or exec: that it comes from, "+
			"or set kafka.sasl.token_url, client_id and client_secret")
	case c.Token.IsZero():
		k.required("kafka.sasl.client_id", c.ClientID == "", c.Mechanism)
		k.required("kafka.sasl.client_secret", c.ClientSecret.IsZero(), c.Mechanism)
		k.tokenURL(c.TokenURL)
	case endpoint:
		k.addHidden("kafka.sasl.token", "kafka.sasl.token_url, client_id or client_secret is set as well: "+
			"keep one of the two ways to get a token")
	case !c.Token.isReference():
		k.addHidden("kafka.sasl.token", "a token in the configuration expires: name the file: or exec: that the current one comes from")
	}
}

// What a SASL extension may be, as brokers check it. The name auth is the
// token's own.
var (
	saslExtensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	saslExtensionValue = regexp.MustCompile(`^[ -~]+$`)
)

// saslExtensions shows no value, in case someone takes one for a secret.
func (k *checker) saslExtensions() {
	c := k.Kafka.SASL
	if len(c.Extensions) > 0 && c.Mechanism != MechanismOAuthBearer {
		k.addHidden(saslExtensions, "have no effect without mechanism "+MechanismOAuthBearer+": remove them, or set kafka.sasl.mechanism")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Extensions)) {
		at := saslExtensions + "." + name
		if !saslExtensionName.MatchString(name) || strings.EqualFold(name, "auth") {
			k.addHidden(at, "use letters for the name of a SASL extension, other than auth")
		}
		if !saslExtensionValue.MatchString(c.Extensions[name]) {
			k.addHidden(at, "use printable ASCII characters, at least one")
		}
	}
}

func (k *checker) required(at string, missing bool, mechanism string) {
	if missing {
		k.addHidden(at, "must be set for mechanism "+mechanism)
	}
}

// tokenURL shows nothing of the URL, which may contain credentials.
func (k *checker) tokenURL(text string) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		k.addHidden("kafka.sasl.token_url", "must be an http or https URL for mechanism "+MechanismOAuthBearer)
		return
	}
	if u.User != nil {
		k.addHidden("kafka.sasl.token_url", "contains a user: use kafka.sasl.client_id and kafka.sasl.client_secret")
	}
}
