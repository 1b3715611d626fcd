// Package projectfiles holds tests of the files around the code.
package projectfiles

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// TestGoInstall installs the command as go install would from a proxy, which refuses a module that
// replaces a dependency, or lacks a file that only a clone has.
func TestGoInstall(t *testing.T) {
	const command = "github.com/tollstream/tollstream/cmd/tollstream"
	version := module.Version{Path: "github.com/tollstream/tollstream",
		Version: fmt.Sprintf("v0.0.0-test%d", os.Getpid())}
	proxy, bin := t.TempDir(), t.TempDir()
	writeModule(t, proxy, version)
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		_ = os.RemoveAll(filepath.Join(cache, version.String()))
		downloaded, _ := filepath.Glob(filepath.Join(cache, "cache", "download", version.Path, "@v",
			version.Version+".*"))
		for _, name := range downloaded {
			_ = os.Remove(name)
		}
	})
	install := exec.Command("go", "install", command+"@"+version.Version)
	install.Dir = bin // in no module
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOWORK=off", "GOSUMDB=off",
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -modcacherw"),
		// the dependencies, as this module's tests have them
		"GOPROXY="+fileURL(proxy)+","+fileURL(filepath.Join(cache, "cache", "download")))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install: %v\n%s", err, out)
	}
	out, err = exec.Command(filepath.Join(bin, "tollstream"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), version.Version) {
		t.Errorf("tollstream --version: %v\n%swant %s", err, out, version.Version)
	}
}

func fileURL(dir string) string { return "file://" + filepath.ToSlash(dir) }

// writeModule writes the module of this repository where a proxy has it.
func writeModule(t *testing.T, proxy string, version module.Version) {
	t.Helper()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var files []modzip.File
	others := trackedFiles(t, "*/go.mod") // modules of their own
	for _, name := range trackedFiles(t, "*") {
		if !slices.ContainsFunc(others, func(mod string) bool {
			return strings.HasPrefix(name, strings.TrimSuffix(mod, "go.mod"))
		}) {
			files = append(files, sourceFile(name))
		}
	}
	var archive bytes.Buffer
	if err := modzip.Create(&archive, version, files); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(proxy, version.Path, "@v")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"list":                    []byte(version.Version + "\n"),
		version.Version + ".info": fmt.Appendf(nil, `{"Version":%q}`, version.Version),
		version.Version + ".mod":  mod,
		version.Version + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// sourceFile is a file of this repository, by its path below the root.
type sourceFile string

func (f sourceFile) Path() string                 { return string(f) }
func (f sourceFile) Lstat() (os.FileInfo, error)  { return os.Lstat(path.Join(root, string(f))) }
func (f sourceFile) Open() (io.ReadCloser, error) { return os.Open(path.Join(root, string(f))) }

const root = "../.."

// loadCompose reads compose.yaml as `docker compose` does, with the given environment and no other.
func loadCompose(t *testing.T, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{root + "/compose.yaml"},
		cli.WithWorkingDirectory(root), cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("compose.yaml is not valid: %v", err)
	}
	return project
}

func TestComposeServices(t *testing.T) {
	p := loadCompose(t)
	if got, want := slices.Sorted(slices.Values(p.ServiceNames())), []string{"emit", "init", "kafka",
		"mysql", "process", "view"}; !slices.Equal(got, want) {
		t.Fatalf("services are %v, want %v", got, want)
	}
	for name, s := range p.Services {
		if s.Build == nil && !regexp.MustCompile(`:\d+\.\d+`).MatchString(s.Image) {
			t.Errorf("service %s: image %q has no version", name, s.Image)
		}
		if hasCheck := s.HealthCheck != nil && !s.HealthCheck.Disable; !hasCheck && name != "init" &&
			name != "emit" {
			t.Errorf("service %s has no health check", name)
		}
		if s.Restart == "" {
			t.Errorf("service %s doesn't say whether it restarts", name)
		}
		for _, port := range s.Ports {
			if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
				t.Errorf("service %s: port %s is published on %q, not on loopback", name, port.Published,
					port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if _, named := p.Volumes[v.Source]; v.Type != types.VolumeTypeVolume || !named {
				t.Errorf("service %s: %s is no named volume", name, v.Target)
			}
		}
	}
	for _, name := range []string{"kafka", "mysql", "process"} {
		if len(p.Services[name].Volumes) != 1 {
			t.Errorf("service %s has no volume for its data", name)
		}
	}
}

// TestComposeOrder holds the start to its order: servers, then init, then what works with what it
// made.
func TestComposeOrder(t *testing.T) {
	p := loadCompose(t)
	for name, want := range map[string]map[string]string{
		"init":    {"kafka": types.ServiceConditionHealthy, "mysql": types.ServiceConditionHealthy},
		"process": {"init": types.ServiceConditionCompletedSuccessfully},
		"emit":    {"init": types.ServiceConditionCompletedSuccessfully},
		"view": {"init": types.ServiceConditionCompletedSuccessfully,
			"process": types.ServiceConditionHealthy},
	} {
		for on, condition := range want {
			if got := p.Services[name].DependsOn[on].Condition; got != condition {
				t.Errorf("service %s waits for %s to be %q, want %q", name, on, got, condition)
			}
		}
	}
}

// TestComposeServers holds the servers to what the commands' defaults and fastest load need.
func TestComposeServers(t *testing.T) {
	p := loadCompose(t)
	kafka, mysql := p.Services["kafka"], p.Services["mysql"]
	if !slices.Contains(mysql.Command, "--local-infile=1") {
		t.Errorf("mysql runs with %q, without local_infile", mysql.Command)
	}
	if roles := kafka.Environment["KAFKA_PROCESS_ROLES"]; roles == nil ||
		*roles != "broker,controller" {
		t.Error("kafka does not run in KRaft mode")
	}
	for service, port := range map[string]string{"kafka": "9092", "mysql": "3306"} {
		if s := p.Services[service]; len(s.Ports) != 1 || s.Ports[0].Published != port {
			t.Errorf("service %s is not published on port %s alone", service, port)
		}
	}
}

// TestComposeProbes holds process and view to health checks that ask what they serve, in an image
// that has no shell, and to who can reach what they serve.
func TestComposeProbes(t *testing.T) {
	p := loadCompose(t)
	for name, published := range map[string][]string{"process": nil, "view": {"8080"}} {
		s := p.Services[name]
		if !slices.Equal(s.HealthCheck.Test, []string{"CMD", "tollstream", "health"}) {
			t.Errorf("service %s: health check %q", name, s.HealthCheck.Test)
		}
		for variable, want := range map[string]string{"TOLLSTREAM_METRICS_LISTEN": "0.0.0.0:9464",
			"TOLLSTREAM_ALLOW_ANYONE": "true"} {
			if got := s.Environment[variable]; got == nil || *got != want {
				t.Errorf("service %s: %s is not %q", name, variable, want)
			}
		}
		var ports []string
		for _, port := range s.Ports {
			ports = append(ports, port.Published)
			if listen := s.Environment["TOLLSTREAM_LISTEN"]; listen == nil ||
				*listen != fmt.Sprintf("0.0.0.0:%d", port.Target) {
				t.Errorf("service %s publishes port %d, at which it doesn't listen", name, port.Target)
			}
		}
		if !slices.Equal(ports, published) {
			t.Errorf("service %s publishes the ports %q, want %q", name, ports, published)
		}
	}
}

// TestComposePassword holds the parts to one password, with a default.
func TestComposePassword(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"X=", "toll"},
		{"MYSQL_PASSWORD=s3cret", "s3cret"},
	} {
		p := loadCompose(t, c.env)
		if got := p.Services["mysql"].Environment["MYSQL_PASSWORD"]; got == nil || *got != c.want {
			t.Errorf("%s: MySQL's password is not %q", c.env, c.want)
		}
		for _, name := range []string{"init", "process", "emit", "view"} {
			want := "toll:" + c.want + "@tcp(mysql:3306)/tolldata"
			if got := p.Services[name].Environment["TOLLSTREAM_MYSQL"]; got == nil || *got != want {
				t.Errorf("%s: service %s does not use DSN %q", c.env, name, want)
			}
		}
	}
}

// TestDockerIgnoreHasAllFolders finds a folder with code that the image would be built without.
func TestDockerIgnoreHasAllFolders(t *testing.T) {
	text, err := os.ReadFile(root + "/.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	kept := strings.Fields(string(text))
	list := exec.Command("go", "list", "-deps", "-f", "{{.Dir}}", "./cmd/tollstream")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for dir := range strings.FieldsSeq(string(out)) {
		inside, ours := strings.CutPrefix(dir, top+string(filepath.Separator))
		folder, _, _ := strings.Cut(filepath.ToSlash(inside), "/")
		if ours && !slices.Contains(kept, "!"+folder) {
			t.Errorf(".dockerignore leaves out folder %s", folder)
		}
	}
}
