package awsauth

import (
	"regexp"
	"slices"
	"strings"
)

var region = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)

// regionOf returns the region that the name of an AWS server contains, as in
// shop.abc123.eu-central-1.rds.amazonaws.com and
// b-1.shop.abc123.c2.kafka.eu-central-1.amazonaws.com; empty if there is none.
func regionOf(host string) string {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(host), "."), ".")
	domain := slices.Index(labels, "amazonaws")
	for i := domain - 1; i >= 0; i-- {
		if region.MatchString(labels[i]) {
			return labels[i]
		}
	}
	return ""
}
