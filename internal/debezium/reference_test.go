package debezium

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReferences(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"${file:/secrets/db.properties:password}": "password in file /secrets/db.properties",
		"${env:DB_PASSWORD}":                      "environment variable DB_PASSWORD",
		"${strimzienv:DB_PASSWORD}":               "environment variable DB_PASSWORD",
		"${DB_PASSWORD}":                          "environment variable DB_PASSWORD",
		"${dir:/run/secrets:db}":                  "file /run/secrets/db",
		"${directory:/run/secrets:db}":            "file /run/secrets/db",
		"${strimzidir:/mnt/db:password}":          "file /mnt/db/password",
		"${strimzifile:/mnt/db.properties:x}":     "x in file /mnt/db.properties",
		"${secrets:shop/db:password}":             "key password of Kubernetes secret shop/db",
		"${secretsManager:shop/db:password}":      "password of shop/db in the config provider secretsManager",
		"${vault:password}":                       "password in the config provider vault",
		"prefix-${env:A}":                         "environment variable A",
	} {
		r, ok := findReference("database.password", value)
		require.True(t, ok, value)
		assert.Equal(t, want, r.String(), value)
	}
	for _, value := range []string{"", "plain", "$", "$1", "${}", "{env:A}"} {
		_, ok := findReference("database.password", value)
		assert.False(t, ok, value)
	}
	const replacement = "transforms.outbox.route.topic.replacement"
	_, ok := findReference(replacement, "outbox.${routedByValue}")
	assert.False(t, ok, "a group is no reference")
	r, ok := findReference(replacement, "${env:STAGE}.${routedByValue}")
	require.True(t, ok)
	assert.Equal(t, "environment variable STAGE", r.String())
}

// Debezium Server expands expressions, apart from those with a second dollar.
func TestServerExpressions(t *testing.T) {
	t.Parallel()
	values := map[string]string{"a": "1", "b": "${a}2", "loop": "${loop}"}
	for value, want := range map[string]string{
		"x":             "x",
		"${a}":          "1",
		"${b}3":         "123",
		"$${a}":         "${a}",
		"${C}":          "${env:C}",
		"${C:hunter2}":  "${env:C}",
		"${a:fallback}": "1",
		"${loop}":       "${loop}",
	} {
		assert.Equal(t, want, expand("database.user", value, values), value)
	}
	bomb := map[string]string{}
	for i := range 100 {
		bomb[strconv.Itoa(i)] = fmt.Sprintf("${%d}${%[1]d}", i+1)
	}
	assert.Less(t, len(expand("database.user", "${0}", bomb)), 4*longestValue)
	assert.Equal(t, "x.${routedByValue}", expand("transforms.outbox.route.topic.replacement", "x.${routedByValue}", values))
}
