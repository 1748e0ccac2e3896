package awstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Identity is a set of credentials.
type Identity struct{ Key, Secret, Session string }

// Cloud issues credentials and knows them when they sign. Its methods may be
// called from any goroutine.
type Cloud struct {
	server *httptest.Server

	mu       sync.Mutex
	issued   map[string]Identity
	asked    map[string]int
	lasts    time.Duration // of credentials
	ahead    time.Duration // of its clock
	refusing bool
}

// New starts a cloud. It points the SDK of this process to it, and away from
// every other identity, so the test cannot be parallel.
func New(t testing.TB) *Cloud {
	t.Helper()
	c := &Cloud{issued: map[string]Identity{}, asked: map[string]int{}, lasts: time.Hour}
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // which also restores it
		}
	}
	nothing := filepath.Join(t.TempDir(), "nothing")
	for name, value := range c.environment(nothing) {
		t.Setenv(name, value)
	}
	return c
}

func (c *Cloud) environment(file string) map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_STS": c.server.URL + "/sts", "AWS_EC2_METADATA_SERVICE_ENDPOINT": c.server.URL, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": file, "AWS_SHARED_CREDENTIALS_FILE": file, "AWS_MAX_ATTEMPTS": "1",
	}
}

// Static sets the environment variables of long-lived credentials.
func (c *Cloud) Static(t testing.TB) Identity {
	t.Helper()
	i := c.issue("AKIASTATIC", false)
	t.Setenv("AWS_ACCESS_KEY_ID", i.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", i.Secret)
	return i
}

// Profile writes a profile with long-lived credentials, and one that assumes a
// role with them, and selects one of the two.
func (c *Cloud) Profile(t testing.TB, name string) {
	t.Helper()
	i := c.issue("AKIAPROFILE", false)
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("[profile plain]\naws_access_key_id = %s\naws_secret_access_key = %s\n"+
		"[profile role]\nrole_arn = arn:aws:iam::123456789012:role/streamer\nsource_profile = plain\n", i.Key, i.Secret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_PROFILE", name)
}

// WebIdentity sets what IRSA gives to a pod.
func (c *Cloud) WebIdentity(t testing.TB) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("web-identity-canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/streamer")
}

// PodIdentity sets what Pod Identity gives to a pod.
func (c *Cloud) PodIdentity(t testing.TB) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("pod-identity-canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", c.server.URL+"/container")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)
}

// Instance gives the machine an instance role.
func (c *Cloud) Instance(t testing.TB) {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
}

// Last makes credentials that are issued from now on expire after a time.
func (c *Cloud) Last(lasts time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lasts = lasts
}

// Shift sets the cloud's clock ahead of the machine's.
func (c *Cloud) Shift(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = ahead
}

// Refuse makes the cloud answer every question with a refusal.
func (c *Cloud) Refuse(refusing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = refusing
}

// Asked is how often an endpoint has issued credentials: "AssumeRole",
// "AssumeRoleWithWebIdentity", "container" or "instance".
func (c *Cloud) Asked(endpoint string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[endpoint]
}

// Secrets are what must not be found anywhere.
func (c *Cloud) Secrets() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.issued {
		all = append(all, i.Secret)
		if i.Session != "" {
			all = append(all, i.Session)
		}
	}
	kafkaToken := base64.RawURLEncoding.EncodeToString([]byte("https://kafka"))[:16] // how each begins
	return append(all, "web-identity-canary", "pod-identity-canary", "X-Amz-Signature", "X-Amz-Security-Token", kafkaToken)
}

func (c *Cloud) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *Cloud) identity(key string) (Identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.issued[key]
	return i, ok
}

// issue creates credentials. Each has a secret of its own.
func (c *Cloud) issue(key string, session bool) Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Identity{Key: key, Secret: "secret-canary-" + key}
	if session {
		i.Session = fmt.Sprintf("session-canary/%s+=", key)
	}
	c.issued[key] = i
	return i
}

func (c *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	now := c.now().UTC()
	w.Header().Set("Date", now.Format(http.TimeFormat))
	c.mu.Lock()
	refusing, expires := c.refusing, now.Add(c.lasts).Format(time.RFC3339)
	c.mu.Unlock()
	switch {
	case refusing:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not today</Message></Error></ErrorResponse>`)
	case r.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		fmt.Fprint(w, "metadata")
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
		fmt.Fprint(w, "streamer")
	case strings.HasPrefix(r.URL.Path, "/latest/meta-data/iam/"):
		c.document(w, "instance", "ASIAINSTANCE", expires)
	case r.URL.Path == "/container" && r.Header.Get("Authorization") == "pod-identity-canary":
		c.document(w, "container", "ASIACONTAINER", expires)
	case strings.HasPrefix(r.URL.Path, "/sts"):
		c.sts(w, r, expires)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// document answers like the instance's and the container's endpoint.
func (c *Cloud) document(w http.ResponseWriter, endpoint, prefix, expires string) {
	i := c.next(endpoint, prefix)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"Code": "Success", "AccessKeyId": i.Key, "SecretAccessKey": i.Secret, "Token": i.Session, "Expiration": expires,
	})
}

// next counts a question and answers it with new credentials.
func (c *Cloud) next(endpoint, prefix string) Identity {
	c.mu.Lock()
	c.asked[endpoint]++
	n := c.asked[endpoint]
	c.mu.Unlock()
	return c.issue(fmt.Sprintf("%s%d", prefix, n), true)
}

// sts answers like the Security Token Service.
func (c *Cloud) sts(w http.ResponseWriter, r *http.Request, expires string) {
	w.Header().Set("Content-Type", "text/xml")
	action := r.FormValue("Action")
	if action == "GetCallerIdentity" {
		fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/streamer/pod</Arn>`+
			`</GetCallerIdentityResult></GetCallerIdentityResponse>`)
		return
	}
	if action == "AssumeRoleWithWebIdentity" && r.FormValue("WebIdentityToken") != "web-identity-canary" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	i := c.next(action, "ASIA"+strings.ToUpper(action))
	fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey>`+
		`<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, i.Key, i.Secret, i.Session, expires)
}
