package awstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Region is the region of everything here.
const Region = "xx-test-1"

// lifetime and tolerance are AWS's own.
const (
	lifetime  = 15 * time.Minute
	tolerance = 5 * time.Minute
)

// Token is what a token says once its signature was found right.
type Token struct {
	Host   string // for which it was signed
	Key    string // access key ID of who has signed
	Action string
	User   string // of the database
	At     time.Time
}

// CheckKafka checks a token of AWS_MSK_IAM.
func (c *Cloud) CheckKafka(token string) (Token, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return Token{}, fmt.Errorf("encoding: %w", err)
	}
	u, err := url.Parse(string(text))
	if err != nil {
		return Token{}, errors.New("not a URL")
	}
	query := u.Query()
	if !strings.HasPrefix(query.Get("User-Agent"), "aws-msk-iam-sasl-signer-go") {
		return Token{}, errors.New("no User-Agent")
	}
	query.Del("User-Agent") // it is added after signing
	u.RawQuery = query.Encode()
	return c.check(u, "kafka-cluster")
}

// CheckPostgres checks a token of RDS.
func (c *Cloud) CheckPostgres(token string) (Token, error) {
	u, err := url.Parse("https://" + token)
	if err != nil {
		return Token{}, errors.New("not a URL")
	}
	return c.check(u, "rds-db")
}

// check verifies a presigned URL.
func (c *Cloud) check(u *url.URL, service string) (Token, error) {
	query := u.Query()
	at, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil {
		return Token{}, errors.New("no X-Amz-Date")
	}
	token := Token{Host: u.Host, Action: query.Get("Action"), User: query.Get("DBUser"), At: at}
	scope := strings.Join([]string{at.Format("20060102"), Region, service, "aws4_request"}, "/")
	var ok bool
	if token.Key, ok = strings.CutSuffix(query.Get("X-Amz-Credential"), "/"+scope); !ok {
		return Token{}, fmt.Errorf("scope %q", query.Get("X-Amz-Credential"))
	}
	identity, ok := c.identity(token.Key)
	expires, _ := strconv.Atoi(query.Get("X-Amz-Expires"))
	age := c.now().Sub(at)
	switch {
	case !ok:
		return Token{}, fmt.Errorf("unknown access key %q", token.Key)
	case query.Get("X-Amz-Security-Token") != identity.Session:
		return Token{}, errors.New("wrong session token")
	case expires <= 0 || time.Duration(expires)*time.Second > lifetime:
		return Token{}, fmt.Errorf("lifetime of %d s", expires)
	case age > time.Duration(expires)*time.Second:
		return Token{}, fmt.Errorf("expired %s ago", age-lifetime)
	case age < -tolerance:
		return Token{}, fmt.Errorf("signed in %s", -age)
	case query.Get("X-Amz-SignedHeaders") != "host":
		return Token{}, errors.New("host is not signed")
	}
	if want := sign(u, scope, query.Get("X-Amz-Date"), identity.Secret); query.Get("X-Amz-Signature") != want {
		return Token{}, errors.New("wrong signature")
	}
	return token, nil
}

// sign is Signature Version 4 of a GET request without a body.
func sign(u *url.URL, scope, date, secret string) string {
	query := u.Query()
	query.Del("X-Amz-Signature")
	hash := func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) }
	canonical := strings.Join([]string{
		"GET", "/", strings.ReplaceAll(query.Encode(), "+", "%20"), "host:" + u.Host, "", "host", hash(""),
	}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hash(canonical)}, "\n")))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
