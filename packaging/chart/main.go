// Command chart lints the Helm chart as `helm lint` does, and packs it as `helm package` does.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
)

func main() {
	version := flag.String("version", "", "`VERSION` of the command that the chart runs")
	out := flag.String("out", "bin/packages", "`FOLDER` to write to")
	flag.Parse()
	if err := pack(flag.Arg(0), *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func pack(dir, version, out string) error {
	if err := check(dir, nil); err != nil {
		return err
	}
	chart, err := loader.Load(dir)
	if err != nil {
		return err
	}
	if version != "" {
		chart.Metadata.AppVersion = strings.TrimPrefix(version, "v")
	}
	name, err := util.Save(chart, out)
	if err == nil {
		fmt.Println(name)
	}
	return err
}

// check returns what helm lint warns of.
func check(dir string, values map[string]any) error {
	result := lint.RunAll(dir, values, "default")
	var found []string
	for _, m := range result.Messages {
		if m.Severity >= support.WarningSev {
			found = append(found, m.Error())
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("lint: %s", strings.Join(found, "; "))
	}
	return nil
}
