package simtest

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/topology/kafka"
)

// Quiet silences the libraries of Kafka, once.
var Quiet = sync.OnceFunc(kafka.QuietLibraries)

// Broker starts a broker in this process, with the topic toll of 4 partitions, until the test ends.
func Broker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Cluster) {
	t.Helper()
	Quiet()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1),
		kfake.SeedTopics(4, "toll")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, kafka.Cluster{Brokers: c.ListenAddrs(), ClientID: "test"}
}
