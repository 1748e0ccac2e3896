package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const chart = "../helm/streamer"

// rendered holds the objects of a chart, decoded strictly: a field that
// Kubernetes does not know is an error.
type rendered struct {
	deployment   *appsv1.Deployment
	statefulSet  *appsv1.StatefulSet
	configMap    *corev1.ConfigMap
	service      *corev1.Service
	account      *corev1.ServiceAccount
	budget       *policyv1.PodDisruptionBudget
	monitor      *serviceMonitor
	rule         *prometheusRule
	streamerYAML map[string]any
}

// serviceMonitor holds the fields that the chart uses.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path,omitempty"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              map[string]any `json:"spec"`
}

func render(t *testing.T, values string) rendered {
	t.Helper()
	c, err := loader.Load(chart)
	require.NoError(t, err)
	var set map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(values), &set))
	all, err := chartutil.ToRenderValues(c, set, chartutil.ReleaseOptions{Name: "outbox", Namespace: "shop"}, chartutil.DefaultCapabilities)
	require.NoError(t, err)
	files, err := engine.Render(c, all)
	require.NoError(t, err)
	var r rendered
	for name, content := range files {
		for document := range strings.SplitSeq(content, "\n---\n") {
			r.add(t, name, document)
		}
	}
	return r
}

func (r *rendered) add(t *testing.T, name, document string) {
	t.Helper()
	var meta metav1.TypeMeta
	if filepath.Ext(name) == ".txt" || strings.TrimSpace(document) == "" {
		return
	}
	require.NoError(t, yaml.Unmarshal([]byte(document), &meta), name)
	if meta.Kind == "" {
		return // only comments
	}
	switch meta.APIVersion + " " + meta.Kind {
	case "apps/v1 Deployment":
		r.deployment = strictly[appsv1.Deployment](t, name, document)
	case "apps/v1 StatefulSet":
		r.statefulSet = strictly[appsv1.StatefulSet](t, name, document)
	case "v1 ConfigMap":
		r.configMap = strictly[corev1.ConfigMap](t, name, document)
		require.NoError(t, yaml.Unmarshal([]byte(r.configMap.Data["streamer.yaml"]), &r.streamerYAML))
	case "v1 Service":
		r.service = strictly[corev1.Service](t, name, document)
	case "v1 ServiceAccount":
		r.account = strictly[corev1.ServiceAccount](t, name, document)
	case "policy/v1 PodDisruptionBudget":
		r.budget = strictly[policyv1.PodDisruptionBudget](t, name, document)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		r.monitor = strictly[serviceMonitor](t, name, document)
	case "monitoring.coreos.com/v1 PrometheusRule":
		r.rule = strictly[prometheusRule](t, name, document)
	default:
		t.Errorf("%s: unexpected %s %s", name, meta.APIVersion, meta.Kind)
	}
}

// strictly reads a document and rejects members that its type does not have.
func strictly[T any](t *testing.T, name, document string) *T {
	t.Helper()
	into := new(T)
	require.NoError(t, yaml.UnmarshalStrict([]byte(document), into), "%s:\n%s", name, document)
	return into
}

func TestChartLints(t *testing.T) {
	t.Parallel()
	for _, m := range lint.All(chart, nil, "shop", true).Messages {
		assert.LessOrEqual(t, m.Severity, support.InfoSev, m.Error())
	}
}

// Two pods, one of them on standby, that may do nothing but connect.
func TestDeployment(t *testing.T) {
	t.Parallel()
	r := render(t, "secretFiles: [kafka-tls]")
	require.NotNil(t, r.deployment)
	assert.Nil(t, r.statefulSet)
	assert.EqualValues(t, 2, *r.deployment.Spec.Replicas)
	pod := r.deployment.Spec.Template
	for label, value := range r.deployment.Spec.Selector.MatchLabels {
		assert.Equal(t, value, pod.Labels[label])
	}
	require.Len(t, pod.Spec.Containers, 1)
	c := pod.Spec.Containers[0]
	assert.True(t, *pod.Spec.SecurityContext.RunAsNonRoot)
	assert.False(t, *pod.Spec.AutomountServiceAccountToken)
	assert.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	assert.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	assert.Equal(t, "/healthz", c.LivenessProbe.HTTPGet.Path)
	assert.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path)
	require.Len(t, c.Env, 1)
	assert.Equal(t, "STREAMER_POSTGRES_DSN", c.Env[0].Name)
	assert.Equal(t, "streamer-postgres", c.Env[0].ValueFrom.SecretKeyRef.Name)
	mounted := map[string]string{}
	for _, m := range c.VolumeMounts {
		assert.True(t, m.ReadOnly, m.Name)
		mounted[m.Name] = m.MountPath
	}
	assert.Equal(t, map[string]string{"config": "/etc/streamer", "secret-kafka-tls": "/run/secrets/streamer/kafka-tls"}, mounted)
	for _, v := range pod.Spec.Volumes {
		assert.Contains(t, mounted, v.Name)
	}
	require.NotNil(t, r.budget)
	assert.Equal(t, r.deployment.Spec.Selector.MatchLabels, r.budget.Spec.Selector.MatchLabels)
	assert.Equal(t, r.deployment.Spec.Selector.MatchLabels, r.service.Spec.Selector)
	assert.Equal(t, pod.Spec.ServiceAccountName, r.account.Name)
	assert.Nil(t, r.monitor)
	assert.Equal(t, map[string]any{"listen": "0.0.0.0:9180"}, r.streamerYAML["http"])
}

func TestShards(t *testing.T) {
	t.Parallel()
	r := render(t, "shards: 4")
	assert.Nil(t, r.deployment)
	require.NotNil(t, r.statefulSet)
	assert.EqualValues(t, 4, *r.statefulSet.Spec.Replicas)
	assert.Equal(t, r.service.Name, r.statefulSet.Spec.ServiceName)
	env := map[string]corev1.EnvVar{}
	for _, v := range r.statefulSet.Spec.Template.Spec.Containers[0].Env {
		env[v.Name] = v
	}
	assert.Equal(t, "4", env["STREAMER_SHARD_COUNT"].Value)
	assert.Equal(t, "metadata.labels['apps.kubernetes.io/pod-index']", env["STREAMER_SHARD_INDEX"].ValueFrom.FieldRef.FieldPath)
}

func TestMonitoring(t *testing.T) {
	t.Parallel()
	r := render(t, "serviceMonitor: {enabled: true, labels: {release: prometheus}}\nprometheusRule: {enabled: true}")
	require.NotNil(t, r.monitor)
	assert.Equal(t, "prometheus", r.monitor.Labels["release"])
	require.Len(t, r.monitor.Spec.Endpoints, 1)
	var ports []string
	for _, p := range r.service.Spec.Ports {
		ports = append(ports, p.Name)
	}
	assert.Contains(t, ports, r.monitor.Spec.Endpoints[0].Port)
	for label, value := range r.monitor.Spec.Selector.MatchLabels {
		assert.Equal(t, value, r.service.Labels[label])
	}
	require.NotNil(t, r.rule)
	text, err := os.ReadFile("../prometheus/alerts.yaml")
	require.NoError(t, err)
	var alerts map[string]any
	require.NoError(t, yaml.Unmarshal(text, &alerts))
	assert.Equal(t, alerts, r.rule.Spec, "the same alerts as in deploy/prometheus")
}
