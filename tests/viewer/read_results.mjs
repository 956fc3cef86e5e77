// Read DICOM files with dcmjs, and print what it finds in them as JSON.
// node read_results.mjs MODULES FILE...
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, ...paths] = process.argv.slice(2);
const { default: dcmjs } = await import(createRequire(join(modules, 'package.json')).resolve('dcmjs'));
const { BitArray, DicomMessage, DicomMetaDictionary } = dcmjs.data ?? dcmjs;

const list = value => (value === undefined ? [] : [].concat(value));
const first = value => list(value)[0];

function read(path) {
  const bytes = readFileSync(path);
  const file = DicomMessage.readFile(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const dataset = DicomMetaDictionary.naturalizeDataset(file.dict);
  return { dataset, meta: DicomMetaDictionary.naturalizeDataset(file.meta) };
}

function framesOf(dataset) {
  const bits = BitArray.unpack(first(dataset.PixelData));
  const size = dataset.Rows * dataset.Columns;
  return list(dataset.PerFrameFunctionalGroupsSequence).map((groups, index) => ({
    segment: first(groups.SegmentIdentificationSequence).ReferencedSegmentNumber,
    position: first(groups.PlanePositionSequence).ImagePositionPatient.map(Number),
    pixels: Array.from(bits.slice(index * size, (index + 1) * size), bit => (bit ? 1 : 0)).join(''),
  }));
}

function itemsOf(dataset) {
  return list(dataset.ContentSequence).flatMap(item => {
    const value = {
      CODE: () => first(item.ConceptCodeSequence).CodeMeaning,
      NUM: () => Number(first(item.MeasuredValueSequence).NumericValue),
      TEXT: () => item.TextValue,
      UIDREF: () => item.UID,
      IMAGE: () => first(item.ReferencedSOPSequence).ReferencedSOPInstanceUID,
      COMPOSITE: () => first(item.ReferencedSOPSequence).ReferencedSOPInstanceUID,
    }[item.ValueType];
    const name = first(item.ConceptNameCodeSequence)?.CodeMeaning ?? null;
    return [[item.ValueType, name, value ? value() : null], ...itemsOf(item)];
  });
}

function evidenceOf(dataset) {
  return list(dataset.CurrentRequestedProcedureEvidenceSequence)
    .flatMap(study => list(study.ReferencedSeriesSequence))
    .flatMap(series => list(series.ReferencedSOPSequence))
    .map(item => item.ReferencedSOPInstanceUID);
}

console.log(JSON.stringify(paths.map(path => {
  const { dataset, meta } = read(path);
  return {
    sop_class_uid: dataset.SOPClassUID,
    sop_instance_uids: [dataset.SOPInstanceUID, meta.MediaStorageSOPInstanceUID],
    patient_name: JSON.parse(JSON.stringify(dataset.PatientName)),
    title: first(dataset.ConceptNameCodeSequence)?.CodeMeaning,
    segments: list(dataset.SegmentSequence).map(item => item.SegmentLabel),
    frames: dataset.PixelData ? framesOf(dataset) : [],
    items: itemsOf(dataset),
    evidence: evidenceOf(dataset),
  };
})));
