// Package awstest stands in for AWS in tests: the endpoints from which the SDK
// gets credentials, an RDS server that checks tokens, and the check of the
// tokens themselves, written after AWS's specification of Signature Version 4
// and not with the SDK.
package awstest
