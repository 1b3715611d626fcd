package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// open unpacks the archive that make image built, and returns its images by architecture.
func open(t *testing.T) map[string]v1.Image {
	t.Helper()
	f, err := os.Open("../../bin/tollstream-image.tar")
	if err != nil {
		if os.Getenv("TOLLSTREAM_REQUIRE_SERVICES") != "" {
			t.Fatal(err)
		}
		t.Skipf("run make image first: %v", err)
	}
	defer f.Close()
	dir := t.TempDir()
	unpack(t, f, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		if images[m.Platform.Architecture], err = index.Image(m.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

// unpack unpacks a tar file as root would: with its owners.
func unpack(t *testing.T, r io.Reader, dir string) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, h.FileInfo().Mode())
		} else {
			var content []byte
			if content, err = io.ReadAll(in); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(name), 0o755),
					os.WriteFile(name, content, h.FileInfo().Mode()))
			}
		}
		if err == nil && os.Getuid() == 0 {
			err = os.Chown(name, h.Uid, h.Gid)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestImage looks into the images, and runs the one for this machine in a chroot, as its user.
func TestImage(t *testing.T) {
	images := open(t)
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, img := range images {
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Architecture != arch || cfg.Config.User != "65532:65532" ||
			!slices.Equal(cfg.Config.Entrypoint, []string{"tollstream"}) {
			t.Errorf("%s: config %+v", arch, cfg.Config)
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		files := mutate.Extract(img)
		unpack(t, files, dir)
		_ = files.Close()
		pool := x509.NewCertPool()
		pem, err := os.ReadFile(filepath.Join(dir, "etc/ssl/certs/ca-certificates.crt"))
		if err != nil || !pool.AppendCertsFromPEM(pem) || bytes.Count(pem, []byte("BEGIN")) < 100 {
			t.Errorf("%s: no authorities' certificates: %v", arch, err)
		}
		binary, err := elf.Open(filepath.Join(dir, "usr/local/bin/tollstream"))
		if err != nil {
			t.Fatal(err)
		}
		if _ = binary.Close(); binary.Machine != machines[arch] || binary.Section(".interp") != nil {
			t.Errorf("%s: a command for %v, or one that needs libraries", arch, binary.Machine)
		}
		if arch == runtime.GOARCH {
			t.Run("run", func(t *testing.T) { runIn(t, dir, cfg.Config) })
		}
	}
}

func runIn(t *testing.T, dir string, cfg v1.Config) {
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	tollstream := func(args ...string) string {
		cmd := exec.Command("/usr/local/bin/tollstream", args...)
		cmd.Dir, cmd.Env = "/", cfg.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir,
			Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--version"}, "tollstream"},
		// the timezone is read first
		{[]string{"emit", "--timezone", "Europe/Berlin", "--count", "0"}, "--count"},
		{[]string{"emit", "--timezone", "Europe/Atlantis", "--count", "0"}, "--timezone"},
	} {
		if out := tollstream(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("tollstream %q printed %q, want %q in it", c.args, out, c.want)
		}
	}
	// Its user may write to the state folder, and nowhere else.
	var writable []string
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if s := info.Sys().(*syscall.Stat_t); name != dir && s.Uid == 65532 {
			writable = append(writable, strings.TrimPrefix(name, dir))
		}
		return nil
	})
	if want := []string{"/var/lib/tollstream"}; err != nil || !slices.Equal(writable, want) {
		t.Errorf("the user owns %q, want %q: %v", writable, want, err)
	}
}
