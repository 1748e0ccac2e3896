{{/* The pod, the same for a Deployment and for a StatefulSet of shards. */}}
{{- define "streamer.pod" -}}
metadata:
  labels:
    {{- include "streamer.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ include "streamer.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "streamer.serviceAccount" . }}
  automountServiceAccountToken: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  # Longer than shutdown.drain_timeout.
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: streamer
      image: "{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, --config, /etc/streamer/streamer.yaml]
      env:
        {{- if gt (int .Values.shards) 1 }}
        - name: STREAMER_SHARD_COUNT
          value: {{ .Values.shards | quote }}
        - name: STREAMER_SHARD_INDEX
          valueFrom:
            fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}
        {{- end }}
        {{- range $name, $from := .Values.secrets }}
        - name: {{ $name }}
          valueFrom:
            secretKeyRef: {name: {{ $from.secret | quote }}, key: {{ $from.key | quote }}}
        {{- end }}
      ports:
        - {name: http, containerPort: 9180}
      # A server that is away is no reason for a restart, so only the process itself is probed.
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/streamer, readOnly: true}
        {{- range .Values.secretFiles }}
        - {name: {{ printf "secret-%s" . | quote }}, mountPath: {{ printf "/run/secrets/streamer/%s" . | quote }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "streamer.name" . }}}
    {{- range .Values.secretFiles }}
    - name: {{ printf "secret-%s" . | quote }}
      secret: {secretName: {{ . | quote }}, defaultMode: 0440}
    {{- end }}
  {{- if .Values.topologySpread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "streamer.selector" . | nindent 10 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
