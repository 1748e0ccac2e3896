// Package awsauth turns an AWS identity into what logs in to MSK and RDS: a
// token for each connection, signed with the credentials that AWS's default
// chain finds. These are, in this order, environment variables, a web identity
// (IRSA), a profile, a container's endpoint (Pod Identity, ECS) and the instance
// role. Nothing is read before the first token is needed.
package awsauth
