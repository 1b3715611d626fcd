// Command image builds the container image without Docker, from the last stage of the Dockerfile
// and the commands that `make packages` built: an archive in OCI's layout, with an image for each
// architecture.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	dockerfile := flag.String("dockerfile", "Dockerfile", "`FILE` whose last stage is built")
	binaries := flag.String("bin", "bin", "`FOLDER` of linux-ARCH/tollstream")
	version := flag.String("version", "", "`VERSION` of the image")
	out := flag.String("out", "bin/tollstream-image.tar", "`FILE` to write")
	flag.Parse()
	if err := build(*dockerfile, *binaries, *version, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// build writes the images of the architectures as one archive.
func build(dockerfile, binaries, version, out string, archs []string) error {
	if len(archs) == 0 {
		archs = []string{runtime.GOARCH}
	}
	stage, err := lastStage(dockerfile)
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		img, err := image(stage, filepath.Join(binaries, "linux-"+arch, "tollstream"), arch, version)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "linux", Architecture: arch},
			Annotations: map[string]string{"org.opencontainers.image.ref.name": "tollstream:" + version},
		}})
	}
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, index); err != nil {
		return err
	}
	return archive(dir, out)
}

func lastStage(dockerfile string) (*instructions.Stage, error) {
	f, err := os.Open(dockerfile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	last := &stages[len(stages)-1]
	if last.BaseName != "scratch" {
		return nil, fmt.Errorf("the last stage is FROM %s, not from scratch", last.BaseName)
	}
	return last, nil
}

// image does what the stage's instructions say. What they copy from the stage before is the
// command, the authorities' certificates and an empty folder.
func image(stage *instructions.Stage, command, arch, version string) (v1.Image, error) {
	binary, err := os.ReadFile(command)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"/out/tollstream": binary, "/out/state": nil,
		"/etc/ssl/certs/ca-certificates.crt": certificates()}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	cfg := v1.ConfigFile{Architecture: arch, OS: "linux",
		RootFS: v1.RootFS{Type: "layers"}}
	cfg.Config.Labels = map[string]string{"org.opencontainers.image.version": version,
		"org.opencontainers.image.licenses": "MIT"}
	if img, err = mutate.ConfigFile(img, &cfg); err != nil {
		return nil, err
	}
	for _, c := range stage.Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			source := c.SourcePaths[0]
			content, known := files[source]
			if !known || len(c.SourcePaths) != 1 {
				return nil, fmt.Errorf("copy %q: only the command, certificates and the state folder "+
					"can be copied", c.SourcePaths)
			}
			target := c.DestPath
			if strings.HasSuffix(target, "/") {
				target = path.Join(target, path.Base(source))
			}
			layer, err := layerOf(target, content, c.Chown)
			if err != nil {
				return nil, err
			}
			if img, err = mutate.AppendLayers(img, layer); err != nil {
				return nil, err
			}
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				cfg.Config.Env = append(cfg.Config.Env, pair.String())
			}
		case *instructions.VolumeCommand:
			cfg.Config.Volumes = map[string]struct{}{}
			for _, volume := range c.Volumes {
				cfg.Config.Volumes[volume] = struct{}{}
			}
		case *instructions.UserCommand:
			cfg.Config.User = c.User
		case *instructions.EntrypointCommand:
			cfg.Config.Entrypoint = c.CmdLine
		case *instructions.CmdCommand:
			cfg.Config.Cmd = c.CmdLine
		default:
			return nil, fmt.Errorf("instruction %s is not known here", c.Name())
		}
	}
	return mutate.Config(img, cfg.Config)
}

// certificates are Mozilla's authorities, as a file of the system has them.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return b.Bytes()
}

// layerOf returns a layer with one file and its folders; a file without content is a folder. It has
// no time, so that the same command makes the same image.
func layerOf(name string, content []byte, owner string) (v1.Layer, error) {
	var uid, gid int
	if owner != "" {
		if _, err := fmt.Sscanf(owner, "%d:%d", &uid, &gid); err != nil {
			return nil, fmt.Errorf("owner %q is not UID:GID", owner)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for i := range parts {
		h := tar.Header{Name: strings.Join(parts[:i+1], "/"), Mode: 0o755, Typeflag: tar.TypeDir,
			Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}
		if i == len(parts)-1 {
			h.Uid, h.Gid = uid, gid
			if content != nil {
				h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
			}
			if strings.HasSuffix(name, ".crt") {
				h.Mode = 0o644
			}
		}
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

// archive writes a folder as a tar file.
func archive(dir, out string) (err error) {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(inside), Mode: 0o644,
			Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	return errors.Join(err, w.Close())
}
