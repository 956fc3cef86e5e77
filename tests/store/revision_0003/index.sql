BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	occurred_at DATETIME NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,'node','test','x','{}','2026-03-04 12:01:30.000000');
CREATE TABLE conflicts (
	id INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	reason VARCHAR(32) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	stored_digest VARCHAR(64), 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	calling_ae_title TEXT NOT NULL, 
	association_id TEXT NOT NULL, 
	received_at DATETIME NOT NULL, 
	CONSTRAINT pk_conflicts PRIMARY KEY (id), 
	CONSTRAINT uq_conflicts_sop_instance_uid_digest_transfer_syntax_uid UNIQUE (sop_instance_uid, digest, transfer_syntax_uid)
);
CREATE TABLE deliveries (
	id INTEGER NOT NULL, 
	result_id INTEGER NOT NULL, 
	peer TEXT NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	attempt_number INTEGER NOT NULL, 
	owner TEXT, 
	lease_expires_at DATETIME, 
	retry_at DATETIME, 
	error_code TEXT, 
	error_message TEXT, 
	created_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	CONSTRAINT pk_deliveries PRIMARY KEY (id), 
	CONSTRAINT fk_deliveries_result_id FOREIGN KEY(result_id) REFERENCES results (id), 
	CONSTRAINT uq_deliveries_result_id_peer UNIQUE (result_id, peer)
);
INSERT INTO "deliveries" VALUES(1,1,'pacs','succeeded',1,NULL,NULL,NULL,NULL,NULL,'2026-03-04 12:01:10.000000','2026-03-04 12:01:12.000000');
INSERT INTO "deliveries" VALUES(2,1,'archive','queued',0,NULL,NULL,NULL,NULL,NULL,'2026-03-04 12:01:10.000000',NULL);
CREATE TABLE instances (
	id INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	dataset_bytes BIGINT NOT NULL, 
	origin VARCHAR(32) NOT NULL, 
	generation INTEGER NOT NULL, 
	instance_number INTEGER, 
	attributes TEXT NOT NULL, 
	calling_ae_title TEXT NOT NULL, 
	association_id TEXT NOT NULL, 
	received_at DATETIME NOT NULL, superseded_at DATETIME, 
	CONSTRAINT pk_instances PRIMARY KEY (id), 
	CONSTRAINT fk_instances_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT fk_instances_study_instance_uid FOREIGN KEY(study_instance_uid) REFERENCES studies (study_instance_uid)
);
INSERT INTO "instances" VALUES(1,'2.25.888633906665965445658426855341440497','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','66a171bd5aa9a3c78392e4b13f3e099e874e85fe0846757fcfb0d19bb98bab11',1746,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.888633906665965445658426855341440497"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(2,'2.25.940857370003750913337749940187354707','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','54653d079428c3c3eb97e13e6cf45ac40d2b71abeb4d73c5f6665703c4d33e37',1746,'received',1,2,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.940857370003750913337749940187354707"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[2]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-697.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(3,'2.25.118049689240087444325877110728808268','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','803063ce042d3eabf34b2e65455a4468c9adcad52c1fe9c237f0fb5de17ae1db',1746,'received',1,3,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.118049689240087444325877110728808268"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[3]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-694.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(4,'2.25.739298193867737803726521404414470293','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','8d98a7f0a05a94e362b5c73f635ae9497703a0bd9d20e8708c5155b697133298',1746,'received',1,4,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.739298193867737803726521404414470293"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[4]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-691.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(5,'2.25.392806496359797357582456204792238397','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','66b7dd9c263a227378ff1a13c91399a8148e65bdfd987ba65c657384f88a7787',1746,'received',1,5,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.392806496359797357582456204792238397"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[5]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-688.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(6,'2.25.869783935885369099011669771383695227','1.2.840.10008.5.1.4.1.1.2','2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','1.2.840.10008.1.2.1','490420778a092ec21ed5c2b387185031bd5c81c6ebc965f42b3d3f17593bc6fb',1746,'received',1,6,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.869783935885369099011669771383695227"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[6]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-685.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[24]},"00280011":{"vr":"US","Value":[20]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(7,'2.25.1138882488239845398690328770373311730','1.2.840.10008.5.1.4.1.1.2','2.25.186618280947289603856995912801677056','2.25.428731829501226548774232272344567705','1.2.840.10008.1.2.1','22b14c40532c3735f2036ab6c952ab1ab383310bbbb09225b46c26f35ceaf8eb',818,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1138882488239845398690328770373311730"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(8,'2.25.472654171354292594767391051240970588','1.2.840.10008.5.1.4.1.1.2','2.25.186618280947289603856995912801677056','2.25.428731829501226548774232272344567705','1.2.840.10008.1.2.1','8369db5974874586ff64a0769bb24333d234abd0d7191bd477c5dd11e22e998e',818,'received',1,2,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.472654171354292594767391051240970588"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[2]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-697.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(9,'2.25.1273516375311256083374725516641142150','1.2.840.10008.5.1.4.1.1.2','2.25.186618280947289603856995912801677056','2.25.428731829501226548774232272344567705','1.2.840.10008.1.2.1','1935bf84f0916574c8c5df18987d698bebd6343cb71c22bcf555c324d17a8ebc',818,'received',1,3,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1273516375311256083374725516641142150"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[3]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-694.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(10,'2.25.148691067776675751459194206227794383','1.2.840.10008.5.1.4.1.1.2','2.25.88827436415494939926763152938476261','2.25.470114012967222223216857797276095768','1.2.840.10008.1.2.1','a6a576fc696944be18560c5d5feaf1f3ec39baf063da235d984846290eac0f96',816,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.148691067776675751459194206227794383"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(11,'2.25.1100687637928281884121210269666257945','1.2.840.10008.5.1.4.1.1.2','2.25.88827436415494939926763152938476261','2.25.470114012967222223216857797276095768','1.2.840.10008.1.2.1','ac392042ec16f85382c1b7b2e195cc40d6f65b77bf286b57ed79950a0743cd73',816,'received',1,2,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1100687637928281884121210269666257945"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[2]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-697.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(12,'2.25.456924424491854364180878150033561149','1.2.840.10008.5.1.4.1.1.2','2.25.88827436415494939926763152938476261','2.25.470114012967222223216857797276095768','1.2.840.10008.1.2.1','dc14c944a24b9f56dcaa696b78ab1b8370daf0759d248c70269cd2fd44af404a',816,'received',1,3,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.456924424491854364180878150033561149"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[3]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-694.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(13,'2.25.372841600272642044987236742833934289','1.2.840.10008.5.1.4.1.1.2','2.25.930625462211387291671090283411911314','2.25.790996887385413037437494749070876617','1.2.840.10008.1.2.1','ec8325ef0c96c817c40936bc03d8d1911a2e1c58df4160f12e63253226af7138',816,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.372841600272642044987236742833934289"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(14,'2.25.1169883580263997845604736722763138501','1.2.840.10008.5.1.4.1.1.2','2.25.930625462211387291671090283411911314','2.25.790996887385413037437494749070876617','1.2.840.10008.1.2.1','8fed9dad7b28b9eb7428de6917a0ca83c32e55a726102b3e6fe105c8a6925649',816,'received',1,2,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1169883580263997845604736722763138501"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[2]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-697.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(15,'2.25.723663004245988391079250003548159990','1.2.840.10008.5.1.4.1.1.2','2.25.930625462211387291671090283411911314','2.25.790996887385413037437494749070876617','1.2.840.10008.1.2.1','ca887c52774d8a8735ae26a33742fb9595051fbc95e063a0b5fbb04033caa987',816,'received',1,3,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.723663004245988391079250003548159990"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[3]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-694.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(16,'2.25.876380168241649714219667717901672507','1.2.840.10008.5.1.4.1.1.2','2.25.393484779989718923400226373160503476','2.25.373460073540959939871037576408980068','1.2.840.10008.1.2.1','40008393fe28932092596d72b629cdf03e358f1885b1565a74507718897f772e',818,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.876380168241649714219667717901672507"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(17,'2.25.1185622036400464434852824059434721748','1.2.840.10008.5.1.4.1.1.2','2.25.78037975588971636219158340922264233','2.25.1328529118277967785724914483057801947','1.2.840.10008.1.2.1','52186c1b743347dccf6071b435ec70475ab64053afaf081e235c1ca10b7755bd',816,'received',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1185622036400464434852824059434721748"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-700.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(18,'2.25.1243824869145662716752334393734498740','1.2.840.10008.5.1.4.1.1.2','2.25.78037975588971636219158340922264233','2.25.1328529118277967785724914483057801947','1.2.840.10008.1.2.1','148649ca90ecde8eed156d33a32a962dc1f2d0f5de2a33110beecb51446423b5',816,'received',1,2,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},"00080018":{"vr":"UI","Value":["2.25.1243824869145662716752334393734498740"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[2]},"00200032":{"vr":"DS","Value":[-50.0,-60.0,-697.0]},"00200037":{"vr":"DS","Value":[1.0,0.0,0.0,0.0,1.0,0.0]},"00280010":{"vr":"US","Value":[4]},"00280011":{"vr":"US","Value":[4]},"00280100":{"vr":"US","Value":[16]}}','CT1','1','2026-03-04 12:00:00.000000',NULL);
INSERT INTO "instances" VALUES(19,'2.25.119721312526820241657145623402078030','1.2.840.10008.5.1.4.1.1.4','2.25.1094027821785492798211809043984466213','2.25.1110264417785004198438658593891429681','1.2.840.10008.1.2.1','83c3b998e1189cfac77d9ce55a210f2eeaa32244062ada0a311c5b896c1bc5cb',3658,'node',1,1,'{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","M"]},"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.4"]},"00080018":{"vr":"UI","Value":["2.25.119721312526820241657145623402078030"]},"00080023":{"vr":"DA","Value":["20200102"]},"00080033":{"vr":"TM","Value":["101112"]},"00200012":{"vr":"IS","Value":[1]},"00200013":{"vr":"IS","Value":[1]},"00200032":{"vr":"DS","Value":[-40.0,-90.0,110.0]},"00200037":{"vr":"DS","Value":[0.0,1.0,0.0,0.0,0.0,-1.0]},"00280010":{"vr":"US","Value":[40]},"00280011":{"vr":"US","Value":[36]},"00280100":{"vr":"US","Value":[16]}}','','','2026-03-04 12:01:10.000000',NULL);
CREATE TABLE job_events (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	event VARCHAR(32) NOT NULL, 
	from_state VARCHAR(32), 
	to_state VARCHAR(32) NOT NULL, 
	attempt_number INTEGER NOT NULL, 
	owner TEXT, 
	detail TEXT NOT NULL, 
	occurred_at DATETIME NOT NULL, 
	CONSTRAINT pk_job_events PRIMARY KEY (id), 
	CONSTRAINT fk_job_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "job_events" VALUES(1,1,'queued',NULL,'queued',0,NULL,'rule everything-else; no instance for 60 s (quiet period 30 s)','2026-03-04 12:01:00.000000');
INSERT INTO "job_events" VALUES(2,2,'queued',NULL,'queued',0,NULL,'rule everything-else; no instance for 60 s (quiet period 30 s)','2026-03-04 12:01:00.000000');
INSERT INTO "job_events" VALUES(3,3,'queued',NULL,'queued',0,NULL,'rule everything-else; no instance for 60 s (quiet period 30 s)','2026-03-04 12:01:00.000000');
INSERT INTO "job_events" VALUES(4,1,'claimed','queued','running',1,'w','','2026-03-04 12:01:01.000000');
INSERT INTO "job_events" VALUES(5,1,'succeeded','running','succeeded',1,'w','1 results','2026-03-04 12:01:10.000000');
INSERT INTO "job_events" VALUES(6,2,'claimed','queued','running',1,'w','','2026-03-04 12:01:20.000000');
INSERT INTO "job_events" VALUES(7,2,'failed','running','dead',1,'w','too-few-slices: 3 slices','2026-03-04 12:01:21.000000');
INSERT INTO "job_events" VALUES(8,3,'claimed','queued','running',1,'w','','2026-03-04 12:01:22.000000');
INSERT INTO "job_events" VALUES(9,3,'failed','running','waiting',1,'w','out-of-memory: not enough memory','2026-03-04 12:01:23.000000');
INSERT INTO "job_events" VALUES(10,4,'queued',NULL,'queued',0,NULL,'rule everything-else; no instance for 60 s (quiet period 30 s)','2026-03-04 12:01:00.000000');
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	generation INTEGER NOT NULL, 
	stack_policy VARCHAR(64) NOT NULL, 
	pipeline_digest VARCHAR(64) NOT NULL, 
	priority INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	attempt_number INTEGER NOT NULL, 
	owner TEXT, 
	lease_expires_at DATETIME, 
	retry_at DATETIME, 
	error_code TEXT, 
	error_message TEXT, 
	error_detail TEXT, 
	queued_at DATETIME NOT NULL, 
	started_at DATETIME, 
	ended_at DATETIME, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT uq_jobs_work UNIQUE (series_instance_uid, generation, stack_policy, pipeline_digest)
);
INSERT INTO "jobs" VALUES(1,'2.25.186618280947289603856995912801677056','2.25.428731829501226548774232272344567705',1,'every-stack','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,'rule everything-else; no instance for 60 s (quiet period 30 s)','succeeded',1,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-04 12:01:00.000000','2026-03-04 12:01:01.000000','2026-03-04 12:01:10.000000');
INSERT INTO "jobs" VALUES(2,'2.25.88827436415494939926763152938476261','2.25.470114012967222223216857797276095768',1,'every-stack','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,'rule everything-else; no instance for 60 s (quiet period 30 s)','dead',1,NULL,NULL,NULL,'too-few-slices','3 slices',NULL,'2026-03-04 12:01:00.000000','2026-03-04 12:01:20.000000','2026-03-04 12:01:21.000000');
INSERT INTO "jobs" VALUES(3,'2.25.930625462211387291671090283411911314','2.25.790996887385413037437494749070876617',1,'every-stack','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,'rule everything-else; no instance for 60 s (quiet period 30 s)','waiting',1,NULL,NULL,'2026-03-04 12:01:40.000000','out-of-memory','not enough memory',NULL,'2026-03-04 12:01:00.000000','2026-03-04 12:01:22.000000',NULL);
INSERT INTO "jobs" VALUES(4,'2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008',1,'every-stack','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,'rule everything-else; no instance for 60 s (quiet period 30 s)','queued',0,NULL,NULL,NULL,NULL,NULL,NULL,'2026-03-04 12:01:00.000000',NULL,NULL);
CREATE TABLE results (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	stack_number INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, superseded_by_job_id INTEGER, 
	CONSTRAINT pk_results PRIMARY KEY (id), 
	CONSTRAINT fk_results_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_results_job_id_sop_instance_uid UNIQUE (job_id, sop_instance_uid)
);
INSERT INTO "results" VALUES(1,1,'seg',1,'2.25.119721312526820241657145623402078030','2026-03-04 12:01:10.000000',NULL);
CREATE TABLE series (
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	modality TEXT NOT NULL, 
	series_number INTEGER, 
	series_description TEXT NOT NULL, 
	body_part_examined TEXT NOT NULL, 
	performed_procedure_step_start_date TEXT NOT NULL, 
	performed_procedure_step_start_time TEXT NOT NULL, 
	attributes TEXT NOT NULL, 
	origin VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	generation INTEGER NOT NULL, 
	n_instances INTEGER NOT NULL, 
	n_dataset_bytes BIGINT NOT NULL, 
	first_arrival_at DATETIME NOT NULL, 
	last_arrival_at DATETIME NOT NULL, 
	completed_at DATETIME, 
	skip_reason TEXT, forced_at DATETIME, waits_because TEXT, complete_because TEXT, is_doubted BOOLEAN, pipeline_digest VARCHAR(64), n_sources_deleted INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_series PRIMARY KEY (series_instance_uid), 
	CONSTRAINT fk_series_study_instance_uid FOREIGN KEY(study_instance_uid) REFERENCES studies (study_instance_uid)
);
INSERT INTO "series" VALUES('2.25.791856457902900543227774902788695952','2.25.251444289496448905177838020959300008','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.791856457902900543227774902788695952"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.1213333144150255315737074613822599640"]}}','received','complete',1,6,10476,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000','2026-03-04 12:01:00.000000',NULL,NULL,NULL,'no instance for 60 s (quiet period 30 s)',0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0);
INSERT INTO "series" VALUES('2.25.186618280947289603856995912801677056','2.25.428731829501226548774232272344567705','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.186618280947289603856995912801677056"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.730902134706427740416813388957993219"]}}','received','complete',1,3,2454,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000','2026-03-04 12:01:00.000000',NULL,NULL,NULL,'no instance for 60 s (quiet period 30 s)',0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0);
INSERT INTO "series" VALUES('2.25.88827436415494939926763152938476261','2.25.470114012967222223216857797276095768','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.88827436415494939926763152938476261"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.989720898500411923014277110732669340"]}}','received','complete',1,3,2448,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000','2026-03-04 12:01:00.000000',NULL,NULL,NULL,'no instance for 60 s (quiet period 30 s)',0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0);
INSERT INTO "series" VALUES('2.25.930625462211387291671090283411911314','2.25.790996887385413037437494749070876617','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.930625462211387291671090283411911314"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.87522992114906376173544725281029557"]}}','received','complete',1,3,2448,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000','2026-03-04 12:01:00.000000',NULL,NULL,NULL,'no instance for 60 s (quiet period 30 s)',0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0);
INSERT INTO "series" VALUES('2.25.393484779989718923400226373160503476','2.25.373460073540959939871037576408980068','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.393484779989718923400226373160503476"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.1162220740567706957507980579715199486"]}}','received','skipped',1,1,818,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000','2026-03-04 12:01:00.000000','rule-localiser: a localiser (scout) is a projection or a few crossing planes, not a volume',NULL,NULL,'no instance for 60 s (quiet period 30 s)',0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0);
INSERT INTO "series" VALUES('2.25.78037975588971636219158340922264233','2.25.1328529118277967785724914483057801947','CT',3,'CT phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["CT"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["CT phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.78037975588971636219158340922264233"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.1034723618667937881635719288100272108"]}}','received','receiving',1,2,1632,'2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "series" VALUES('2.25.1094027821785492798211809043984466213','2.25.1110264417785004198438658593891429681','MR',3,'MR phantom','','','','{"00080021":{"vr":"DA","Value":["20200102"]},"00080031":{"vr":"TM","Value":["101112"]},"00080060":{"vr":"CS","Value":["MR"]},"00080070":{"vr":"LO","Value":["Synthetic"]},"0008103E":{"vr":"LO","Value":["MR phantom"]},"00185100":{"vr":"CS","Value":["HFS"]},"0020000E":{"vr":"UI","Value":["2.25.1094027821785492798211809043984466213"]},"00200011":{"vr":"IS","Value":[3]},"00200052":{"vr":"UI","Value":["2.25.521951336149710549938973764669477274"]}}','node','complete',1,1,3658,'2026-03-04 12:01:10.000000','2026-03-04 12:01:10.000000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE studies (
	study_instance_uid VARCHAR(64) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	patient_id TEXT NOT NULL, 
	patient_name_key TEXT NOT NULL, 
	patient_name_groups_key TEXT NOT NULL, 
	patient_birth_date TEXT NOT NULL, 
	patient_sex TEXT NOT NULL, 
	study_date TEXT NOT NULL, 
	study_time TEXT NOT NULL, 
	accession_number TEXT NOT NULL, 
	study_id TEXT NOT NULL, 
	study_description TEXT NOT NULL, 
	referring_physician_name_key TEXT NOT NULL, 
	attributes TEXT NOT NULL, 
	first_arrival_at DATETIME NOT NULL, 
	last_arrival_at DATETIME NOT NULL, 
	CONSTRAINT pk_studies PRIMARY KEY (study_instance_uid)
);
INSERT INTO "studies" VALUES('2.25.251444289496448905177838020959300008','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.251444289496448905177838020959300008"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.428731829501226548774232272344567705','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.428731829501226548774232272344567705"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.470114012967222223216857797276095768','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.470114012967222223216857797276095768"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.790996887385413037437494749070876617','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.790996887385413037437494749070876617"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.373460073540959939871037576408980068','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.373460073540959939871037576408980068"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.1328529118277967785724914483057801947','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.1328529118277967785724914483057801947"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:00:00.000000','2026-03-04 12:00:00.000000');
INSERT INTO "studies" VALUES('2.25.1110264417785004198438658593891429681','open','P1','phantom^åsa','','19700101','O','20200102','101112','A1','1','','','{"00080020":{"vr":"DA","Value":["20200102"]},"00080030":{"vr":"TM","Value":["101112"]},"00080050":{"vr":"SH","Value":["A1"]},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Phantom^Åsa"}]},"00100020":{"vr":"LO","Value":["P1"]},"00100030":{"vr":"DA","Value":["19700101"]},"00100040":{"vr":"CS","Value":["O"]},"0020000D":{"vr":"UI","Value":["2.25.1110264417785004198438658593891429681"]},"00200010":{"vr":"SH","Value":["1"]}}','2026-03-04 12:01:10.000000','2026-03-04 12:01:10.000000');
CREATE TABLE tags (
	id INTEGER NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	set_by TEXT NOT NULL, 
	set_at DATETIME NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (id), 
	CONSTRAINT fk_tags_study_instance_uid FOREIGN KEY(study_instance_uid) REFERENCES studies (study_instance_uid), 
	CONSTRAINT uq_tags_study_instance_uid_series_instance_uid_name UNIQUE (study_instance_uid, series_instance_uid, name)
);
INSERT INTO "tags" VALUES(1,'2.25.428731829501226548774232272344567705','2.25.186618280947289603856995912801677056','verdict','defaced','node','2026-03-04 12:01:10.000000');
CREATE TABLE unproven (
	id INTEGER NOT NULL, 
	writer VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_unproven PRIMARY KEY (id)
);
INSERT INTO "unproven" VALUES(1,'8043-c33f78ecffcf5756','148649ca90ecde8eed156d33a32a962dc1f2d0f5de2a33110beecb51446423b5');
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	stack_number INTEGER NOT NULL, 
	verdict VARCHAR(32) NOT NULL, 
	probability FLOAT NOT NULL, 
	reasons TEXT NOT NULL, 
	report TEXT NOT NULL, 
	found_at DATETIME NOT NULL, 
	CONSTRAINT pk_verdicts PRIMARY KEY (id), 
	CONSTRAINT fk_verdicts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_verdicts_job_id_stack_number UNIQUE (job_id, stack_number)
);
INSERT INTO "verdicts" VALUES(1,1,1,'defaced',0.97,'["anonymised area on 90% of the face''s front, 300 mL there"]','{"name": "2.25.186618280947289603856995912801677056", "foreground_ml": 4000.5, "anonymized_ml": 300.25, "remarks": [{"code": "repeats-not-run", "text": "2 repeats"}, {"code": "tilted", "text": "slices lean by 12.0 degrees"}]}','2026-03-04 12:01:10.000000');
CREATE INDEX ix_conflicts_digest ON conflicts (digest);
CREATE INDEX ix_studies_accession_number ON studies (accession_number);
CREATE INDEX ix_studies_last_arrival_at ON studies (last_arrival_at);
CREATE INDEX ix_studies_patient_id ON studies (patient_id);
CREATE INDEX ix_studies_patient_name_key ON studies (patient_name_key);
CREATE INDEX ix_studies_study_date_study_instance_uid ON studies (study_date, study_instance_uid);
CREATE INDEX ix_series_last_arrival_at ON series (last_arrival_at);
CREATE INDEX ix_series_state_last_arrival_at ON series (state, last_arrival_at);
CREATE INDEX ix_series_study_instance_uid_modality ON series (study_instance_uid, modality);
CREATE INDEX ix_instances_digest ON instances (digest);
CREATE INDEX ix_instances_series_instance_uid_instance_number ON instances (series_instance_uid, instance_number);
CREATE UNIQUE INDEX ix_instances_sop_instance_uid ON instances (sop_instance_uid);
CREATE INDEX ix_instances_study_instance_uid ON instances (study_instance_uid);
CREATE INDEX ix_jobs_state_priority_id ON jobs (state, priority, id);
CREATE INDEX ix_jobs_study_instance_uid ON jobs (study_instance_uid);
CREATE INDEX ix_job_events_job_id ON job_events (job_id);
CREATE INDEX ix_results_sop_instance_uid ON results (sop_instance_uid);
CREATE INDEX ix_deliveries_state_id ON deliveries (state, id);
COMMIT;
