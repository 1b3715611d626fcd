package emit

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/topology/kafka"
)

// TestProgress reads what a run reports to systemd, from before Kafka has answered to the end.
func TestProgress(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	var p Progress
	status := p.Status("toll", start)
	expect := func(after time.Duration, want string) {
		t.Helper()
		if got := status(start.Add(after)); got != want {
			t.Errorf("the status is %q, want %q", got, want)
		}
	}
	expect(time.Second, "waiting: no answer from Kafka yet · 0 sent")
	if err := Run(t.Context(), Config{Cluster: kafka.Cluster{Brokers: cluster.ListenAddrs()},
		Topic: "toll", Location: time.UTC, Plazas: []int16{4856}, Count: 1200, Progress: &p,
		Stdout: io.Discard, Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	expect(11*time.Second, "120 events/s · 1,200 sent to topic toll")
	p.away(errors.New("no broker"))
	expect(12*time.Second, "waiting: no answer from Kafka: no broker · 1,200 sent")
	p.away(nil)
	expect(13*time.Second, "0 events/s · 1,200 sent to topic toll")
}
