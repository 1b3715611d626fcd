package packaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
)

// patience is how long anything here may take on a busy machine.
const patience = 2 * time.Minute

// TestDeb does what docs/install.md tells a newcomer on Debian, in a folder as the root of a
// machine: install the package, edit the settings, start the services, see the page, upgrade,
// remove.
func TestDeb(t *testing.T) {
	need(t, os.Getuid() == 0 && installed("dpkg"), "root, and dpkg")
	need(t, installed("mariadbd") || installed("/usr/sbin/mariadbd"), "MariaDB")
	m := newMachine(t)
	m.packageFile = built(t, "packages/tollstream_*_amd64.deb")
	steps := commands(t, "Debian and Ubuntu")
	for _, step := range steps {
		m.do(step)
	}
	if m.exists("/etc/tollstream/tollstream.yaml") || m.exists("/usr/bin/tollstream") {
		t.Error("a purge left settings or the command")
	}
}

// token is what protects the page in the end.
const token = "0123456789abcdef0123456789abcdef"

// dropIns is where systemd finds an administrator's changes of units.
const dropIns = "/etc/systemd/system/"

// block returns the only block of a language in docs/install.md.
func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/install.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```"+language+"\n")
	if len(parts) != 2 {
		t.Fatalf("docs/install.md has %d blocks of %s, want one", len(parts)-1, language)
	}
	content, _, _ := strings.Cut(parts[1], "```")
	return content
}

// commands returns the commands of a section of docs/install.md.
func commands(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "## "+section+"\n")
	if !ok {
		t.Fatalf("docs/install.md has no section %s", section)
	}
	after, _, _ = strings.Cut(after, "\n## ")
	var steps []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(after, -1) {
		steps = append(steps, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return steps
}

// machine is a folder that stands for the root of a machine, on which dpkg installs and services
// run as their units say, in a chroot: there is no systemd here.
type machine struct {
	t                *testing.T
	dir, packageFile string
	brokers, mysql   string // of tollstream up
	page, metrics    string // addresses
	services         map[string]*service
	installs         int
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir(), services: map[string]*service{},
		page: freeAddr(t), metrics: freeAddr(t)}
	t.Cleanup(func() {
		for _, s := range m.services {
			s.stop()
		}
	})
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "run"} {
		m.must(os.MkdirAll(m.path(dir), 0o755))
	}
	m.must(os.Chmod(m.dir, 0o755))
	for _, name := range []string{"status", "available"} {
		m.must(os.WriteFile(m.path("var/lib/dpkg/"+name), nil, 0o644))
	}
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) exists(name string) bool {
	_, err := os.Lstat(m.path(name))
	return err == nil
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// do does what a command of the documentation does.
func (m *machine) do(step string) {
	m.t.Helper()
	m.t.Log(step)
	args := strings.Fields(strings.TrimPrefix(step, "sudo "))
	switch {
	case strings.HasPrefix(step, "sudo apt install ") && m.installs == 0:
		m.installs++
		m.dpkg("--install", m.packageFile)
		for _, name := range []string{"/usr/share/man/man1/tollstream-process.1.gz",
			"/usr/share/bash-completion/completions/tollstream"} {
			if !m.exists(name) {
				m.t.Errorf("the package lacks %s", name)
			}
		}
		var version struct{ Version, Commit, Time string }
		m.must(json.Unmarshal([]byte(m.tollstream("version", "--json")), &version))
		if _, err := time.Parse(time.RFC3339, version.Time); err != nil || len(version.Commit) != 40 ||
			!strings.HasPrefix(version.Version, "v") {
			m.t.Errorf("the version is %+v", version)
		}
		m.startServers()
	case strings.HasPrefix(step, "sudo apt install "):
		m.upgrade()
	case step == "sudo apt remove tollstream":
		m.stop()
		m.dpkg("--remove", "tollstream")
		if !m.exists("/etc/tollstream/tollstream.yaml") || m.exists("/usr/bin/tollstream") {
			m.t.Error("a removal leaves the settings, and nothing else")
		}
	case step == "sudo apt purge tollstream":
		m.dpkg("--purge", "tollstream")
	case step == "sudo editor /etc/tollstream/tollstream.yaml":
		m.edit(args[1], "127.0.0.1:9092", m.brokers, "127.0.0.1:3306", m.mysql,
			"127.0.0.1:8080", m.page, "127.0.0.1:9464", m.metrics)
	case step == "sudo editor /etc/tollstream/mysql-password":
		if info, err := os.Stat(m.path(args[1])); err != nil || info.Mode().Perm() != 0o600 {
			m.t.Errorf("%s: others may read it: %v", args[1], err)
		}
	case strings.HasPrefix(step, "sudo tollstream "):
		out := m.tollstream(args[1:]...)
		if args[1] == "verify" && !strings.HasPrefix(out, "exact: each of 1,000 events") {
			m.t.Errorf("%s printed %q", step, out)
		}
	case strings.HasPrefix(step, "sudo systemctl enable --now "):
		for _, name := range args[3:] {
			m.start(name)
		}
		m.tollstream("emit", "--brokers", m.brokers, "--count", "1000", "--rate", "0")
	case strings.HasPrefix(step, "systemctl status "):
		m.services["tollstream-process"].await("STATUS=", "1,000 stored")
		m.services["tollstream-view"].await("STATUS=", "view at http://"+m.page)
		for _, s := range m.services {
			s.await("WATCHDOG=1", "")
		}
	case strings.HasPrefix(step, "openssl rand ") && strings.HasSuffix(step,
		" | sudo install --mode 600 /dev/stdin /etc/tollstream/token"):
		m.must(os.WriteFile(m.path("/etc/tollstream/token"), []byte(token+"\n"), 0o600))
	case step == "sudo systemctl edit tollstream-view":
		dir := m.path(dropIns + "tollstream-view.service.d")
		m.must(os.MkdirAll(dir, 0o755))
		m.must(os.WriteFile(filepath.Join(dir, "override.conf"), []byte(block(m.t, "ini")), 0o644))
	case step == "sudo systemctl restart tollstream-view":
		m.services["tollstream-view"].stop()
		m.start("tollstream-view")
	case strings.HasSuffix(step, `--header "Authorization: Bearer $(sudo cat /etc/tollstream/token)"`):
		url := strings.Replace(args[2], "127.0.0.1:8080", m.page, 1)
		for bearer, want := range map[string]int{token: http.StatusOK,
			"another": http.StatusUnauthorized} {
			request, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, url, nil)
			m.must(err)
			request.Header.Set("Authorization", "Bearer "+bearer)
			response, err := http.DefaultClient.Do(request)
			m.must(err)
			_ = response.Body.Close()
			if response.StatusCode != want {
				m.t.Errorf("with the token %q: %s, want %d", bearer, response.Status, want)
			}
		}
	case strings.HasPrefix(step, "curl --fail http://127.0.0.1:8080"):
		m.get(strings.Replace(args[2], "127.0.0.1:8080", m.page, 1))
		if page := m.get("http://" + m.page + "/"); !strings.Contains(page, "<title>") {
			m.t.Errorf("the page is %q", page)
		}
	default:
		m.t.Fatalf("the test does not know the command %q", step)
	}
}

// dpkg works on the folder. The packages' scripts run outside of it, where DPKG_ROOT names it.
func (m *machine) dpkg(args ...string) {
	m.t.Helper()
	cmd := exec.Command("dpkg", append([]string{"--root=" + m.dir, "--force-script-chrootless",
		"--force-confdef"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("dpkg %q: %v\n%s", args, err, out)
	}
}

// upgrade installs a later version while the services run, and restarts them as its script does.
func (m *machine) upgrade() {
	m.t.Helper()
	const settings = "/etc/tollstream/tollstream.yaml"
	before, err := os.ReadFile(m.path(settings))
	m.must(err)
	m.dpkg("--install", later(m.t, "deb"))
	after, err := os.ReadFile(m.path(settings))
	if m.must(err); !bytes.Equal(before, after) {
		m.t.Error("the upgrade changed the settings")
	}
	m.stop()
	m.start("tollstream-process")
	m.get("http://" + m.metrics + "/healthz")
}

// later returns a package of a later version.
func later(t *testing.T, packager string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "later."+packager)
	pack := exec.Command("bin/tools/nfpm", "package", "--config", "packaging/nfpm.yaml",
		"--packager", packager, "--target", name)
	pack.Dir = root
	pack.Env = append(os.Environ(), "ARCH=amd64", "VERSION=v99.0.0")
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("nfpm: %v\n%s", err, out)
	}
	return name
}

// startServers runs Kafka and MariaDB, as tollstream up does.
func (m *machine) startServers() {
	m.t.Helper()
	up := exec.Command(m.path("/usr/bin/tollstream"), "up", "--json",
		"--kafka-listen", "127.0.0.1:0", "--mysql-listen", "127.0.0.1:0")
	stdout, err := up.StdoutPipe()
	m.must(err)
	var log bytes.Buffer
	up.Stderr = &log
	m.must(up.Start())
	m.t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	})
	var addresses struct{ Brokers, MySQL string }
	if err := json.NewDecoder(stdout).Decode(&addresses); err != nil {
		m.t.Fatalf("tollstream up: %v\n%s", err, log.String())
	}
	m.brokers = addresses.Brokers
	_, dsn, _ := strings.Cut(addresses.MySQL, "(")
	m.mysql, _, _ = strings.Cut(dsn, ")")
}

func (m *machine) edit(name string, oldNew ...string) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(name))
	m.must(err)
	m.must(os.WriteFile(m.path(name), []byte(strings.NewReplacer(oldNew...).Replace(string(text))),
		0o644))
}

// tollstream runs the installed command as root of the machine.
func (m *machine) tollstream(args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/tollstream", args...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("tollstream %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func (m *machine) get(url string) string {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		res, err := http.Get(url)
		if err == nil {
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return string(body)
			}
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
		if time.Now().After(deadline) {
			m.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stop stops all services, and expects them to say that they do.
func (m *machine) stop() {
	m.t.Helper()
	for name, s := range m.services {
		s.stop()
		s.await("STOPPING=1", "")
		delete(m.services, name)
	}
}

// service is a unit that runs.
type service struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{}
	said  chan string // to systemd
}

// uid is one of those that systemd gives to services with DynamicUser.
const uid = 61184

// start runs a unit's command with its user, environment, credentials and folders, until it is
// ready.
func (m *machine) start(name string) {
	m.t.Helper()
	text, err := os.ReadFile(m.path("/lib/systemd/system/" + name + ".service"))
	m.must(err)
	if change := dropIns + name + ".service.d/override.conf"; m.exists(change) {
		more, err := os.ReadFile(m.path(change))
		m.must(err)
		text = append(append(text, '\n'), more...)
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	m.must(err)
	credentials := "/run/credentials/" + name
	socket := "/run/" + name
	env := []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=1000000"}
	var command []string
	for _, o := range options {
		switch o.Name {
		case "ExecStart":
			command = strings.Fields(o.Value)
		case "Environment":
			env = append(env, strings.ReplaceAll(o.Value, "%d", credentials))
		case "LoadCredential":
			id, source, _ := strings.Cut(o.Value, ":")
			secret, err := os.ReadFile(m.path(source))
			m.must(err)
			m.must(os.MkdirAll(m.path(credentials), 0o755))
			target := m.path(filepath.Join(credentials, id))
			m.must(os.WriteFile(target, secret, 0o400))
			m.must(os.Chown(target, uid, uid))
		case "StateDirectory":
			dir := m.path("/var/lib/" + o.Value)
			m.must(os.MkdirAll(dir, 0o700))
			m.must(os.Chown(dir, uid, uid))
		}
	}
	_ = os.Remove(m.path(socket))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path(socket), Net: "unixgram"})
	m.must(err)
	m.must(os.Chmod(m.path(socket), 0o777))
	s := &service{t: m.t, name: name, ended: make(chan struct{}), said: make(chan string, 10_000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 1<<16)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				select {
				case s.said <- line:
				default: // nobody looks any more
				}
			}
		}
	}()
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = "/", env, &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.dir,
		Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	m.must(s.cmd.Start())
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
		_ = l.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what it said last is there
		<-read
		_ = l.Close()
	}()
	m.services[name] = s
	s.await("READY=1", "")
}

// await waits until the service says something to systemd.
func (s *service) await(prefix, part string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-s.said:
			if strings.HasPrefix(line, prefix) && strings.Contains(line, part) {
				return
			}
		case <-s.ended:
			select {
			case line := <-s.said: // before it ended
				if strings.HasPrefix(line, prefix) && strings.Contains(line, part) {
					return
				}
			default:
				s.t.Fatalf("%s ended, and did not say %s…%s\n%s", s.name, prefix, part, s.log.String())
			}
		case <-deadline:
			s.t.Fatalf("%s did not say %s…%s\n%s", s.name, prefix, part, s.log.String())
		}
	}
}

func (s *service) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// freeAddr returns an address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
