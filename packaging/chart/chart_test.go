package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

const chartDir = "../helm/tollstream"

// render renders the chart and decodes what comes out, strictly, by kind and name.
func render(t *testing.T, values string) map[string]runtime.Object {
	t.Helper()
	objects, err := renderErr(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func renderErr(t *testing.T, text string) (map[string]runtime.Object, error) {
	t.Helper()
	values, err := loader.LoadValues(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(chartDir, values); err != nil {
		t.Error(err)
	}
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := commonutil.ToRenderValues(chart, values, common.ReleaseOptions{Name: "toll",
		Namespace: "roads", IsInstall: true, Revision: 1}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	if err := monitoring.AddToScheme(scheme.Scheme); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).
		UniversalDeserializer()
	objects := map[string]runtime.Object{}
	for name, content := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		docs := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(content)))
		buf := make([]byte, 1<<20)
		for {
			n, err := docs.Read(buf)
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			doc := buf[:n]
			if len(bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(doc), []byte("---")))) == 0 {
				continue
			}
			o, kind, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
				continue
			}
			objects[kind.Kind+" "+o.(interface{ GetName() string }).GetName()] = o
		}
	}
	return objects, nil
}

// variables are those of a pod's only container; one from a field is its path.
func variables(pod core.PodSpec) map[string]string {
	vars := map[string]string{}
	for _, v := range pod.Containers[0].Env {
		if vars[v.Name] = v.Value; v.ValueFrom != nil {
			vars[v.Name] = v.ValueFrom.FieldRef.FieldPath
		}
	}
	return vars
}

func TestDefaults(t *testing.T) {
	objects := render(t, "view: {tokenSecretName: token}")
	want := []string{"Deployment toll-view", "Job toll-init", "NetworkPolicy toll",
		"NetworkPolicy toll-view", "PodDisruptionBudget toll-process", "Service toll-process",
		"Service toll-view", "StatefulSet toll-process"}
	var got []string
	for name := range objects {
		got = append(got, name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("the chart has %q, want %q", got, want)
	}
	set := objects["StatefulSet toll-process"].(*apps.StatefulSet)
	pod := set.Spec.Template.Spec
	for name, want := range map[string]string{"TOLLSTREAM_INSTANCE": "metadata.name",
		"TOLLSTREAM_STATE_DIR": "/var/lib/tollstream", "TOLLSTREAM_BROKERS": "kafka:9092",
		"TOLLSTREAM_METRICS_LISTEN": "0.0.0.0:9464"} {
		if got := variables(pod)[name]; got != want {
			t.Errorf("process: %s is %q, want %q", name, got, want)
		}
	}
	c := pod.Containers[0]
	if !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("process may run as root, or write to its root")
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("process: the probes ask other paths")
	}
	if set.Spec.VolumeClaimTemplates[0].Name != c.VolumeMounts[0].Name ||
		c.VolumeMounts[0].MountPath != "/var/lib/tollstream" {
		t.Error("process has no volume for its state")
	}
	budget := objects["PodDisruptionBudget toll-process"].(*policy.PodDisruptionBudget)
	for what, selector := range map[string]map[string]string{
		"the stateful set":      set.Spec.Selector.MatchLabels,
		"the service":           objects["Service toll-process"].(*core.Service).Spec.Selector,
		"the disruption budget": budget.Spec.Selector.MatchLabels,
	} {
		for name, value := range selector {
			if got := set.Spec.Template.Labels[name]; got != value {
				t.Errorf("%s selects %s=%s, the pod has %q", what, name, value, got)
			}
		}
	}
	view := objects["Deployment toll-view"].(*apps.Deployment).Spec.Template.Spec
	if vars := variables(view); vars["TOLLSTREAM_TOKEN_FILE"] == "" ||
		vars["TOLLSTREAM_ALLOW_ANYONE"] != "" {
		t.Error("the page does not ask for the token")
	}
}

// TestAll sets what is off by default.
func TestAll(t *testing.T) {
	objects := render(t, `
imagePullSecrets: [{name: registry}]
tlsSecretName: tls
settings: {kafka-ca: /etc/tollstream/tls/kafka.pem, latency: 1s}
process:
  partitions: 6
  settings: {latency: 500ms, batch-rows: 20000}
  autoscaling: {enabled: true}
  nodeSelector: {disk: ssd}
  tolerations: [{key: toll, operator: Exists}]
  affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
  persistence: {storageClass: fast}
view: {noAuthentication: true, hosts: [toll.example.org]}
networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
`)
	set := objects["StatefulSet toll-process"].(*apps.StatefulSet)
	hpa := objects["HorizontalPodAutoscaler toll-process"].(*autoscaling.HorizontalPodAutoscaler)
	if set.Spec.Replicas != nil || hpa.Spec.MaxReplicas != 6 ||
		*hpa.Spec.Behavior.ScaleDown.StabilizationWindowSeconds < 600 {
		t.Error("scaling: replicas are set too, above the partitions, or change often")
	}
	vars := variables(set.Spec.Template.Spec)
	for name, want := range map[string]string{"TOLLSTREAM_LATENCY": "500ms",
		"TOLLSTREAM_BATCH_ROWS": "20000", "TOLLSTREAM_KAFKA_CA": "/etc/tollstream/tls/kafka.pem"} {
		if vars[name] != want {
			t.Errorf("process: %s is %q, want %q", name, vars[name], want)
		}
	}
	monitor := objects["ServiceMonitor toll"].(*monitoring.ServiceMonitor)
	for _, name := range []string{"Service toll-process", "Service toll-view"} {
		service := objects[name].(*core.Service)
		for label, value := range monitor.Spec.Selector.MatchLabels {
			if service.Labels[label] != value {
				t.Errorf("the service monitor does not select %s", name)
			}
		}
		if !slices.ContainsFunc(service.Spec.Ports, func(p core.ServicePort) bool {
			return p.Name == monitor.Spec.Endpoints[0].Port
		}) {
			t.Errorf("%s has no port %s", name, monitor.Spec.Endpoints[0].Port)
		}
	}
}

func TestRefusals(t *testing.T) {
	for values, want := range map[string]string{
		"": "set view.tokenSecretName",
		"process: {replicas: 5}\nview: {enabled: false}": "more pods than partitions have nothing to do",
		"view: {enabled: false}\ninit: {enabled: false}": "",
	} {
		_, err := renderErr(t, values)
		if want == "" && err != nil || want != "" && (err == nil ||
			!strings.Contains(err.Error(), want)) {
			t.Errorf("values %q: %v, want %q", values, err, want)
		}
	}
}

func TestPack(t *testing.T) {
	if err := pack(chartDir, "v1.2.3", t.TempDir()); err != nil {
		t.Error(err)
	}
}
