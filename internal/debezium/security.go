package debezium

import (
	"regexp"
	"strings"
)

// security translates encryption and authentication.
func (t *translator) security() {
	const name = producerPrefix + "security.protocol"
	protocol := strings.ToUpper(t.value(name, "PLAINTEXT"))
	if value, ok := t.literal(name, "kafka.tls.enabled"); ok || !t.has(name) {
		isEncrypted := strings.HasSuffix(strings.ToUpper(value), "SSL")
		if t.has(name) {
			t.same(name, "", "kafka.tls.enabled")
		}
		if isEncrypted {
			t.set("kafka.tls.enabled", "true")
			t.certificates()
		}
		if strings.HasPrefix(protocol, "SASL_") {
			t.authentication(isEncrypted)
		}
	}
	if !strings.HasSuffix(protocol, "SSL") {
		t.withoutEffect("ssl.", "no effect without TLS in security.protocol")
	}
	if !strings.HasPrefix(protocol, "SASL_") {
		t.withoutEffect("sasl.", "no effect without SASL in security.protocol")
	}
}

// withoutEffect notes options that nothing has asked for.
func (t *translator) withoutEffect(prefix, why string) {
	for name := range t.options {
		if _, isFound := t.findings[name]; strings.HasPrefix(name, producerPrefix+prefix) && !isFound {
			t.same(name, why)
		}
	}
}

// certificates translates key stores and trust stores. Go reads PEM only.
func (t *translator) certificates() {
	const ca, certificate, key = "kafka.tls.ca_file", "kafka.tls.cert_file", "kafka.tls.key_file"
	const convert = "certificates are read as PEM: convert the store with keytool -importkeystore -deststoretype PKCS12 and openssl pkcs12"
	trust, keys := producerPrefix+"ssl.truststore.", producerPrefix+"ssl.keystore."
	isPEM := func(store string) bool { return strings.EqualFold(t.value(store+"type", "JKS"), "PEM") }
	if t.has(trust + "location") {
		if location, ok := t.literal(trust+"location", ca); ok {
			t.store(trust+"location", location, isPEM(trust), convert, map[string]string{ca: ".pem"})
		}
	}
	if t.has(trust + "certificates") {
		t.set(ca, "/etc/streamer/kafka-ca.pem", "Write the certificates of ssl.truststore.certificates to this file.")
		t.differs(trust+"certificates", "the certificates are read from a file: write them there", deployment, ca)
	}
	if t.has(keys + "location") {
		if location, ok := t.literal(keys+"location", certificate); ok {
			t.store(keys+"location", location, isPEM(keys), convert, map[string]string{certificate: ".crt.pem", key: ".key.pem"})
		}
	}
	for option, file := range map[string]string{"certificate.chain": certificate, "key": key} {
		if t.has(keys + option) {
			t.set(certificate, "/etc/streamer/kafka-client.crt.pem")
			t.set(key, "/etc/streamer/kafka-client.key.pem")
			t.remark(file, "Write the text of ssl.keystore."+option+" to this file.")
			t.differs(keys+option, "the text is read from a file: write it there", deployment, file)
		}
	}
	t.storeDetails(trust, keys)
}

// store notes a file that Java reads. The names of the files that are needed
// instead are made from its name.
func (t *translator) store(name, location string, isPEM bool, convert string, files map[string]string) {
	var all []string
	for key, suffix := range files {
		file := location
		if !isPEM {
			file = storeSuffix.ReplaceAllString(location, "") + suffix
			t.remark(key, "Made from the store "+location+".")
		}
		t.set(key, file)
		all = append(all, key)
	}
	if isPEM {
		t.same(name, "", all...)
		return
	}
	t.differs(name, convert, deployment, all...)
}

var storeSuffix = regexp.MustCompile(`(?i)\.(jks|p12|pfx|pkcs12|keystore|truststore)$`)

func (t *translator) storeDetails(trust, keys string) {
	for _, name := range []string{trust + "type", keys + "type"} {
		t.same(name, "files are PEM", "kafka.tls.ca_file")
	}
	for _, name := range []string{trust + "password", keys + "password", producerPrefix + "ssl.key.password"} {
		t.lacks(name, "files in PEM have no password", "protect the files by their permissions; an encrypted key has to be decrypted")
	}
	const verify = producerPrefix + "ssl.endpoint.identification.algorithm"
	if strings.EqualFold(t.value(verify, "https"), "https") && (!t.has(verify) || t.options[verify].value != "") {
		t.same(verify, "the name in the certificate is checked", "kafka.tls.server_name")
	} else {
		t.lacks(verify, "the name in the brokers' certificates is always checked, unless nothing is",
			"set kafka.tls.server_name to the name in the certificates")
	}
}
