#!/usr/bin/env bash
# Makes the passwords and keys of compose.yaml in deploy/compose/secrets, once: files that are there stay.
# The folder is closed to other users of this machine; the files are not, since containers read them as theirs.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p cameras  # not by Docker, as root
mkdir -p -m 700 secrets
chmod 700 secrets
umask 333

random() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }

write() {  # NAME TEXT: makes a file, if there is none
    [ -e "secrets/$1" ] && return
    printf '%s\n' "$2" >"secrets/.$1" && mv "secrets/.$1" "secrets/$1"
}

for name in bus_password database_password grafana_password; do write "$name" "$(random)"; done
# Without a key until `lares keys create` has made one (docs/deploy.md). Prometheus reads it at every scrape.
write monitoring_key none

bus=$(cat secrets/bus_password)
login="org.apache.kafka.common.security.plain.PlainLoginModule required username=\"lares\" password=\"$bus\""
# A broker that is its own controller, with the settings of the embedded Kafka (deploy/embedded).
write kafka_properties "$(cat <<PROPERTIES
node.id=1
process.roles=broker,controller
listeners=CLIENT://:9092,CONTROLLER://localhost:9093
advertised.listeners=CLIENT://kafka:9092
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@localhost:9093
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config=$login user_lares="$bus";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# The controller's listener is on loopback, without a login.
super.users=User:lares;User:ANONYMOUS
auto.create.topics.enable=false
log.dirs=/var/lib/kafka/data
# There is one broker. An acknowledged record survives a power cut all the same.
log.flush.interval.messages=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
)"

# The first is replaced in place; Kafka's image copies the second with its mode, and then adds to the copy.
chmod u+w secrets/monitoring_key secrets/kafka_properties
