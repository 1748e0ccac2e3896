package config

import "regexp"

var (
	awsRegion = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)
	awsRole   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/.+$`)
)

func (k *checker) aws() {
	if c := k.AWS.Region; c != "" && !awsRegion.MatchString(c) {
		k.add("aws.region", c, "write the name of a region, such as eu-central-1")
	}
	if c := k.AWS.Role; c != "" && !awsRole.MatchString(c) {
		k.add("aws.role", c, "write the ARN of a role, such as arn:aws:iam::123456789012:role/streamer")
	}
	if (k.AWS.Region != "" || k.AWS.Role != "") && !k.UsesAWS() {
		k.addHidden("aws", "nothing logs in with the AWS identity: set postgres.auth or kafka.sasl.mechanism, or remove aws.region and aws.role")
	}
	if k.Checkpoint.Postgres.Auth != "" && k.Checkpoint.Postgres.DSN.IsZero() {
		k.addHidden("checkpoint.postgres.auth", "it goes with checkpoint.postgres.dsn, which is not set: without it, postgres.auth applies")
	}
}
