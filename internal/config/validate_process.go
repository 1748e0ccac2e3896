package config

import (
	"net"
	"net/url"
)

func (k *checker) checkpoint() {
	c := k.Checkpoint
	switch c.Store {
	case StoreKafka:
		if name := c.Kafka.Topic; name == "" || name == "." || name == ".." || len(name) > longestTopic || !topicName.MatchString(name) {
			k.add("checkpoint.kafka.topic", name, "the name of a topic has 1 to 249 letters, digits, dots, underscores and hyphens")
		}
	case StorePostgres:
		k.table("checkpoint.postgres.table", c.Postgres.Table)
	case StoreFile:
		if c.File.Path == "" {
			k.addHidden("checkpoint.file.path", "must be set when checkpoint.store is file")
		}
	}
}

// process checks what concerns the process itself.
func (k *checker) process() {
	if listen := k.HTTP.Listen; listen != "" {
		if _, port, err := net.SplitHostPort(listen); err != nil || !isPort(port, 0) {
			k.add("http.listen", listen, "write host:port, such as 127.0.0.1:9180, or leave it empty for no endpoint")
		}
	}
	if at := k.OTLP.Endpoint; at != "" {
		if u, err := url.Parse(at); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			k.addHidden("otlp.endpoint", "write a URL such as http://127.0.0.1:4318, without credentials: put those into otlp.headers")
		}
	}
	if k.Retry.Max < k.Retry.Initial {
		k.add("retry.max", k.Retry.Max.String(), "must not be less than retry.initial, which is "+k.Retry.Initial.String())
	}
}
