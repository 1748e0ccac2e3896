package debezium

import (
	"fmt"
	"regexp"
	"strings"
)

// authentication translates SASL. Secrets are never written: the file has a
// reference for each, and the report says what goes there.
func (t *translator) authentication(isEncrypted bool) {
	const name, key = producerPrefix + "sasl.mechanism", "kafka.sasl.mechanism"
	mechanism := strings.ToUpper(t.value(name, "GSSAPI"))
	login := t.login()
	switch mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		t.set(key, mechanism)
		t.account(login)
	case "OAUTHBEARER":
		t.set(key, mechanism)
		t.bearer(login)
	case "AWS_MSK_IAM":
		t.set(key, mechanism)
		t.aws(login)
	default:
		why := "the streamer knows PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER and AWS_MSK_IAM"
		t.lacks(name, why, "let the brokers accept one of these, and set kafka.sasl.mechanism")
		t.lacks(jaasOption, why, "set kafka.sasl.mechanism and what it needs")
		if !t.has(name) {
			t.refusals = append(t.refusals, Entry{Option: "sasl.mechanism (not set: GSSAPI)", Says: why, Action: "set kafka.sasl.mechanism"})
		}
		return
	}
	t.same(name, "", key)
	if !isEncrypted && !strings.HasPrefix(mechanism, "SCRAM") {
		t.set("kafka.sasl.allow_plaintext", "true",
			"As the connector, which sends the password or token without TLS: anyone on the network path can read it.")
	}
}

const jaasOption = producerPrefix + "sasl.jaas.config"

// loginEntry is name="value" in JAAS; Kafka also reads single quotes.
var loginEntry = regexp.MustCompile(`([A-Za-z_.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))`)

// login reads sasl.jaas.config. What is kept elsewhere as a whole is empty.
func (t *translator) login() map[string]string {
	entries := map[string]string{}
	for _, m := range loginEntry.FindAllStringSubmatch(t.value(jaasOption, ""), -1) {
		value := m[2] + m[3] + m[4]
		entries[m[1]] = strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`).Replace(value)
	}
	return entries
}

// placeholder is for a value that a configuration needs and the file does not
// have.
const placeholder = "SET-ME"

// account takes a user, and says where the password has to come from.
func (t *translator) account(login map[string]string) {
	const user, password = "kafka.sasl.username", "kafka.sasl.password"
	how := t.shown(user, login["username"])
	how = append(how, t.secret(password, "/run/secrets/streamer/kafka-password", login["password"]))
	t.differs(jaasOption, strings.Join(how, "; "), deployment, user, password)
}

// shown sets a key to a value that may be shown. One that is kept elsewhere has a
// placeholder, and the text says what goes there.
func (t *translator) shown(key, value string) []string {
	from := "what sasl.jaas.config says"
	if r, isReference := findReference(key, value); isReference {
		from = "the value of " + r.String()
	} else if value != "" {
		t.set(key, value)
		return nil
	} else if whole, isReference := findReference(jaasOption, t.value(jaasOption, "")); isReference {
		from = "what " + whole.String() + " says"
	}
	t.set(key, placeholder, fmt.Sprintf("Set this, or %s, to %s.", variableOf(key), from))
	return []string{fmt.Sprintf("set %s to %s", key, from)}
}

// secret sets a key to a file, and says what has to be in it.
func (t *translator) secret(key, file, value string) string {
	from := "what the connector has"
	if r, isReference := findReference(key, value); isReference {
		if name, isFile := r.file(); isFile {
			t.set(key, "file:"+name)
			return fmt.Sprintf("%s is read from the file that the connector names, %s", key, name)
		}
		from = "the value of " + r.String()
	} else if whole, isReference := findReference(jaasOption, t.value(jaasOption, "")); isReference && value == "" {
		from = "what " + whole.String() + " says"
	}
	t.set(key, "file:"+file, fmt.Sprintf("The secret is not in this file: write it to that one (%s), or remove this line and set %s.",
		from, variableOf(key)))
	return fmt.Sprintf("a secret is never written: write it to %s (%s), or set %s", file, from, variableOf(key))
}

// bearer translates the client credentials of OAuth, of Kafka itself and of
// Strimzi.
func (t *translator) bearer(login map[string]string) {
	const prefix = producerPrefix + "sasl.oauthbearer."
	first := func(option string, entries ...string) string {
		if value := t.value(prefix+option, ""); value != "" {
			return value
		}
		for _, entry := range entries {
			if login[entry] != "" {
				return login[entry]
			}
		}
		return ""
	}
	how := t.shown("kafka.sasl.token_url", first("token.endpoint.url", "oauth.token.endpoint.uri"))
	if t.settings["kafka.sasl.token_url"] == placeholder {
		t.settings["kafka.sasl.token_url"] = "https://" + placeholder + ".example.com"
	}
	how = append(how, t.shown("kafka.sasl.client_id", first("client.credentials.client.id", "clientId", "oauth.client.id"))...)
	how = append(how, t.secret("kafka.sasl.client_secret", "/run/secrets/streamer/kafka-client-secret",
		first("client.credentials.client.secret", "clientSecret", "oauth.client.secret")))
	if scope := first("scope", "scope", "oauth.scope"); scope != "" {
		t.set("kafka.sasl.scopes", strings.Join(strings.Fields(scope), ","))
	}
	for entry, value := range login {
		if name, ok := strings.CutPrefix(entry, "extension_"); ok {
			t.set("kafka.sasl.extensions."+name, value)
		}
	}
	keys := []string{"kafka.sasl.token_url", "kafka.sasl.client_id", "kafka.sasl.client_secret"}
	t.differs(jaasOption, strings.Join(how, "; "), deployment, keys...)
	for option, key := range map[string]string{
		"token.endpoint.url": "kafka.sasl.token_url", "client.credentials.client.id": "kafka.sasl.client_id", "scope": "kafka.sasl.scopes",
	} {
		t.same(prefix+option, "", key)
	}
	t.differs(prefix+"client.credentials.client.secret", how[len(how)-1], deployment, "kafka.sasl.client_secret")
	t.same(producerPrefix+"sasl.login.callback.handler.class", "the streamer asks the endpoint itself", "kafka.sasl.token_url")
}

// aws translates the login of MSK.
func (t *translator) aws(login map[string]string) {
	const key = "kafka.sasl.mechanism"
	how := "the AWS identity comes from AWS's default chain"
	keys := []string{key}
	if role := login["awsRoleArn"]; role != "" {
		t.set("aws.role", role)
		keys = append(keys, "aws.role")
	}
	if login["awsProfileName"] != "" {
		how += "; set AWS_PROFILE to the profile of awsProfileName"
		t.differs(jaasOption, how, deployment, keys...)
	} else {
		t.same(jaasOption, how, keys...)
	}
	t.same(producerPrefix+"sasl.client.callback.handler.class", "the streamer signs tokens itself", key)
}
