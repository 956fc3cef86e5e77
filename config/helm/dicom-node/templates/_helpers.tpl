{{- define "node.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "node.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "node.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "node.labels" -}}
{{ include "node.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Half of storage.scratch: a pod with more in an emptyDir than its limit is evicted, and there is more than copies. */}}
{{- define "node.cacheBytes" -}}
{{- $unit := regexFind "[KMGT]i$" .Values.storage.scratch -}}
{{- $bytes := index (dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) $unit -}}
{{- mulf (trimSuffix $unit .Values.storage.scratch | float64) (float64 $bytes) 0.5 | int64 -}}
{{- end }}

{{/* node.yaml: what the chart needs, under what the values say. */}}
{{- define "node.settings" -}}
{{- $name := include "node.name" . -}}
{{- $web := dict "host" "0.0.0.0" "access" "tokens" "host_names" (list (printf "%s-web" $name)) -}}
{{- if .Values.web.ingress.enabled -}}
{{- $_ := set $web "public_url" (printf "https://%s" .Values.web.ingress.host) -}}
{{- $_ := set $web "proxies" .Values.web.ingress.proxies -}}
{{- end -}}
{{- $dimse := dict "host" "0.0.0.0" "port" 11112 -}}
{{- if .Values.tlsSecretName -}}
{{- $tls := dict "certificate_file" "/tls/tls.crt" "key_file" "/tls/tls.key" "ca_file" "/tls/ca.crt" -}}
{{- if .Values.receive.tlsPort }}{{ $_ := set $tls "port" 12762 }}{{ end -}}
{{- $_ := set $dimse "tls" $tls -}}
{{- else if .Values.receive.tlsPort }}{{ fail "receive.tlsPort is set, so tlsSecretName has to name a Secret with tls.crt, tls.key and ca.crt" }}{{ end -}}
{{- $own := dict "node" (dict "data_dir" "/data") "dimse" $dimse "web" $web "log" (dict "format" "json") -}}
{{- if eq .Values.storage.kind "s3" -}}
{{- $_ := set $own "objects" (dict "cache_bytes" (include "node.cacheBytes" . | int64)) -}}
{{- end -}}
{{- $all := mergeOverwrite $own (deepCopy .Values.settings) -}}
{{- if eq .Values.storage.kind "s3" -}}
{{- if not $all.node.objects_url }}{{ fail "storage.kind is s3, so settings.node.objects_url has to name a bucket: s3://bucket/prefix" }}{{ end -}}
{{- if not .Values.secretName }}{{ fail "storage.kind is s3, so secretName has to name a Secret with DICOM_NODE__NODE__DATABASE_URL and the credentials of the bucket" }}{{ end -}}
{{- end -}}
{{- if $all.node.database_url }}{{ fail "settings.node.database_url would be readable by all who may read ConfigMaps; put DICOM_NODE__NODE__DATABASE_URL into the Secret" }}{{ end -}}
{{ toYaml $all }}
{{- end }}

{{/* Pod of one part. Arguments: root, part, and data: how the volume "data" is made (empty: by a claim template). */}}
{{- define "node.pod" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .part -}}
metadata:
  labels: {{- include "node.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include "node.settings" $root | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if eq $root.Values.storage.kind "claim" }}
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: {{ $root.Chart.Name }}
              app.kubernetes.io/instance: {{ $root.Release.Name }}
  {{- else if gt (int $values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "node.selector" . | nindent 10 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .part }}
      {{- include "node.container" . | nindent 6 }}
      args: [{{ .part }}, -c, /config/node.yaml]
      {{- include (printf "node.%s.probes" .part) . | nindent 6 }}
      resources:
        {{- $resources := deepCopy $values.resources }}
        {{- if $values.gpu }}{{ $_ := set $resources.limits "nvidia.com/gpu" (int $values.gpu) }}{{ end }}
        {{- toYaml $resources | nindent 8 }}
  volumes:
    {{- include "node.volumes" . | nindent 4 }}
    {{- if .data }}
    - name: data
      {{- toYaml .data | nindent 6 }}
    {{- end }}
{{- end }}

{{- define "node.container" -}}
image: {{ include "node.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  - {name: CREDENTIALS_DIRECTORY, value: /secrets}
  - {name: HOME, value: /tmp}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: settings, mountPath: /config, readOnly: true}
  - {name: secrets, mountPath: /secrets, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if .root.Values.tlsSecretName }}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- end }}
{{- end }}

{{- define "node.volumes" -}}
- name: settings
  configMap: {name: {{ .settings | default (include "node.name" .root) }}}
- name: secrets
  {{- if .root.Values.secretName }}
  secret: {secretName: {{ .root.Values.secretName }}, defaultMode: 0440}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if .root.Values.tlsSecretName }}
- name: tls
  secret: {secretName: {{ .root.Values.tlsSecretName }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* Where /data of web, schedule and work is. */}}
{{- define "node.data" -}}
{{- if eq .Values.storage.kind "claim" -}}
persistentVolumeClaim: {claimName: {{ include "node.name" . }}-data}
{{- else -}}
emptyDir: {sizeLimit: {{ .Values.storage.scratch }}}
{{- end -}}
{{- end }}

{{- define "node.receive.probes" -}}
ports:
  - {name: dimse, containerPort: 11112}
  {{- if .root.Values.receive.tlsPort }}
  - {name: dimse-tls, containerPort: 12762}
  {{- end }}
startupProbe: {tcpSocket: {port: dimse}, periodSeconds: 5, failureThreshold: 60}
readinessProbe: {tcpSocket: {port: dimse}, periodSeconds: 10}
livenessProbe: {tcpSocket: {port: dimse}, periodSeconds: 30, failureThreshold: 4}
{{- end }}

{{- define "node.web.probes" -}}
ports:
  - {name: http, containerPort: 8080}
startupProbe: {httpGet: {path: /health/live, port: http}, periodSeconds: 5, failureThreshold: 60}
readinessProbe: {httpGet: {path: /health/ready, port: http}, periodSeconds: 15, timeoutSeconds: 6}
livenessProbe: {httpGet: {path: /health/live, port: http}, periodSeconds: 30, timeoutSeconds: 6, failureThreshold: 4}
{{- end }}

{{/* The part says in a file of its own whether it works. Neither has a port, and both end when they fail. */}}
{{- define "node.state.probes" -}}
readinessProbe:
  exec: {command: [sh, -c, "cat /data/parts/{{ .part }}-*.json | grep -F \"\\\"host\\\": \\\"$HOSTNAME\\\"\" | grep -q '\"is_ready\": true'"]}
  periodSeconds: 15
{{- end }}
{{- define "node.schedule.probes" -}}{{ include "node.state.probes" . }}{{- end }}
{{- define "node.work.probes" -}}{{ include "node.state.probes" . }}{{- end }}
