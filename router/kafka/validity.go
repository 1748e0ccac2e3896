package kafka

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// validity is when a token is valid, as far as it says so itself. Only a JSON
// Web Token does. Nothing is verified: that is up to the broker.
type validity struct {
	NotBefore float64 `json:"nbf"` // seconds since 1970, like the others
	Issued    float64 `json:"iat"`
	Expires   float64 `json:"exp"`
}

// validityOf is zero for a token that does not say.
func validityOf(token string) (v validity) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return validity{}
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(claims, &v) != nil {
		return validity{}
	}
	return v
}

// clockTolerance is how far clocks may differ unnoticed.
const clockTolerance = 5 * time.Second

// problem says why a token cannot be valid now; empty if it can.
func (v validity) problem(now time.Time) string {
	if expired := now.Sub(moment(v.Expires)); v.Expires > 0 && expired >= 0 {
		return fmt.Sprintf("the token expired %s ago by this machine's clock", expired.Round(time.Second))
	}
	if early := moment(max(v.NotBefore, v.Issued)).Sub(now); early > clockTolerance {
		return fmt.Sprintf("the token is valid in %s by this machine's clock: this clock or the issuer's is wrong", early.Round(time.Second))
	}
	return ""
}

func moment(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }
